//! The attribute `#[holdfast_sim::test]`: makes an async function the body of a simulation test.
//!
//! ```text
//! #[holdfast_sim::test(seeds = 200, faults = "all", plans = "tests/plans")]
//! async fn NAME(world: World) -> Result<(), E> { … }
//!
//! becomes  #[test] fn NAME() { async fn NAME(world: World) -> … { … }
//!                              holdfast_sim::testing::Test { seeds: 200, … }.run(NAME) }
//! ```

use proc_macro::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, ItemFn, LitInt, LitStr, Token, parse_macro_input};

/// What stands in the attribute's parentheses.
struct Arguments {
    seeds: u64,
    faults: String,
    plans: String,
}

enum Argument {
    Seeds(u64),
    Faults(String),
    Plans(String),
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: syn::Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        match name.to_string().as_str() {
            "seeds" => {
                let number: LitInt = input.parse()?;
                match number.base10_parse()? {
                    0 => Err(Error::new(number.span(), "seeds is 0: nothing would be run")),
                    seeds => Ok(Self::Seeds(seeds)),
                }
            }
            "faults" => Ok(Self::Faults(input.parse::<LitStr>()?.value())),
            "plans" => Ok(Self::Plans(input.parse::<LitStr>()?.value())),
            other => {
                let what = format!(
                    "there is no {other:?}; there are seeds = 200, faults = \"all\", plans = \"folder\""
                );
                Err(Error::new(name.span(), what))
            }
        }
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self { seeds: 100, faults: "all".to_owned(), plans: String::new() };
        for argument in Punctuated::<Argument, Token![,]>::parse_terminated(input)? {
            match argument {
                Argument::Seeds(seeds) => arguments.seeds = seeds,
                Argument::Faults(faults) => arguments.faults = faults,
                Argument::Plans(plans) => arguments.plans = plans,
            }
        }
        Ok(arguments)
    }
}

/// Makes an async function of one argument, a `holdfast_sim::testing::World`, a test that runs it in many simulated
/// worlds. The documentation of `holdfast_sim::testing` says what each of them does and what the arguments mean.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(function as ItemFn);
    expand(&arguments, function).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(arguments: &Arguments, function: ItemFn) -> syn::Result<proc_macro2::TokenStream> {
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(function.sig.fn_token, "a simulation test is an `async fn`"));
    }
    if function.sig.inputs.len() != 1 || !function.sig.generics.params.is_empty() {
        let what = "a simulation test has one argument, a `holdfast_sim::testing::World`, and no generics";
        return Err(Error::new_spanned(&function.sig, what));
    }
    let ItemFn { attrs, vis, sig, block, .. } = function;
    let (name, text) = (&sig.ident, sig.ident.to_string());
    let Arguments { seeds, faults, plans } = arguments;
    let features = features_of(std::env::args());
    Ok(quote! {
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() {
            #sig #block
            ::holdfast_sim::testing::Test {
                package: ::core::env!("CARGO_PKG_NAME"),
                folder: ::core::env!("CARGO_MANIFEST_DIR"),
                features: &[#(#features),*],
                module: ::core::module_path!(),
                name: #text,
                seeds: #seeds,
                faults: #faults,
                plans: #plans,
            }
            .run(#name);
        }
    })
}

/// The features that the test is built with, which its repeat line must name: no macro of Rust tells them, but the
/// compiler was called with them.
fn features_of(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut features: Vec<String> = arguments
        .filter_map(|argument| {
            let feature = argument.strip_prefix("feature=\"")?.strip_suffix('"')?;
            (feature != "default").then(|| feature.to_owned())
        })
        .collect();
    features.sort();
    features.dedup();
    features
}

#[cfg(test)]
mod tests {
    use super::{Arguments, ItemFn, expand, features_of};

    #[test]
    fn features_are_read_from_the_compilers_arguments() {
        let called = [
            "rustc",
            "--cfg",
            "feature=\"default\"",
            "--cfg",
            "feature=\"b\"",
            "--cfg",
            "madsim",
            "feature=\"a\"",
        ];
        assert_eq!(features_of(called.iter().map(|part| (*part).to_owned())), ["a", "b"]);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let arguments = |text: &str| syn::parse_str::<Arguments>(text);
        let given = arguments("seeds = 7, faults = \"none\"").expect("both are known");
        assert_eq!((given.seeds, given.faults.as_str(), given.plans.as_str()), (7, "none", ""));
        for (text, words) in [("seed = 7", "seeds"), ("seeds = 0", "nothing"), ("faults = 3", "string")] {
            let refused = arguments(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        let function = syn::parse_str::<ItemFn>("fn f(world: World) {}").expect("a function");
        let given = arguments("").expect("nothing");
        assert!(expand(&given, function).is_err());
        let function = syn::parse_str::<ItemFn>("async fn f() {}").expect("a function");
        assert!(expand(&given, function).is_err());
    }
}
