//! Splits a line of the shell into words.
//!
//! Spaces part words, single or double quotes keep them together. A backslash stays as it is, for keys and values have
//! an escape syntax of their own; so a quotation mark inside a word needs the other kind around it.

/// The words of a line.
///
/// # Errors
/// A quotation mark that is not closed.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quotation mark {open} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_quotes_and_escapes() {
        assert_eq!(split("  put a\\n 'b c' ").unwrap(), ["put", "a\\n", "b c"]);
        assert_eq!(split(r#"get '(1, "x")'"#).unwrap(), ["get", r#"(1, "x")"#]);
        assert_eq!(split(r#"put k "" it"'"s"#).unwrap(), ["put", "k", "", "it's"]);
        assert!(split("").unwrap().is_empty());
        assert_eq!(split("get 'a").unwrap_err(), "the quotation mark ' is not closed");
    }

    quickcheck::quickcheck! {
        fn quoted_words_come_back(words: Vec<String>) -> bool {
            let words: Vec<String> = words.into_iter().map(|word| word.replace('\'', "")).collect();
            let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            split(&line.join(" ")).unwrap() == words
        }
    }
}
