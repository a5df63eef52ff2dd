//! Every assigned Unicode character as a record: real data that every installation has at hand.
//!
//! The tour and the benchmarks load it: well over a hundred thousand records with keys of one to four bytes of
//! UTF-8 or a number, names of very different lengths, and two columns of few distinct values to index.
//!
//! Included is what is assigned in Unicode 17.0: what the names table knows, the Tangut ideographs, and the 65 control characters, which have labels instead
//! of names. Not included are surrogates, private use and unassigned code points. Category and script come from
//! tables that may be of a later version; for an assigned character they hardly ever change.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_script::{Script, UnicodeScript};

/// How many characters [`characters`] yields.
pub const COUNT: usize = 159_866;

/// One assigned character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Character {
    /// The character itself.
    pub value: char,
    /// Its name, such as `LATIN SMALL LETTER A`; for a control character its label, `<control-000A>`.
    pub name: String,
    /// General category, two letters, such as `Ll`.
    pub category: &'static str,
    /// Script, such as `Latin`, `Han`, `Common`.
    pub script: &'static str,
}

impl Character {
    /// The code point as it is written: `U+0061`.
    pub fn code_point(&self) -> String {
        format!("U+{:04X}", u32::from(self.value))
    }
}

/// All assigned characters, by code point.
pub fn characters() -> impl Iterator<Item = Character> {
    ('\0'..=char::MAX).filter_map(|value| {
        let name = name_or_label(value)?;
        let script: Script = value.script();
        let category = category_letters(value.general_category());
        Some(Character { value, name, category, script: script.full_name() })
    })
}

/// The name, made by rule where the standard makes it by rule and the table lacks it; `None` if unassigned.
fn name_or_label(value: char) -> Option<String> {
    let code = u32::from(value);
    match (unicode_names2::name(value), value) {
        (Some(name), _) => Some(name.to_string()),
        (None, _) if value.is_control() => Some(format!("<control-{code:04X}>")),
        (None, '\u{17000}'..='\u{187ff}' | '\u{18d00}'..='\u{18d1e}') => {
            Some(format!("TANGUT IDEOGRAPH-{code:04X}"))
        }
        (None, _) => None,
    }
}

fn category_letters(category: GeneralCategory) -> &'static str {
    match category {
        GeneralCategory::UppercaseLetter => "Lu",
        GeneralCategory::LowercaseLetter => "Ll",
        GeneralCategory::TitlecaseLetter => "Lt",
        GeneralCategory::ModifierLetter => "Lm",
        GeneralCategory::OtherLetter => "Lo",
        GeneralCategory::NonspacingMark => "Mn",
        GeneralCategory::SpacingMark => "Mc",
        GeneralCategory::EnclosingMark => "Me",
        GeneralCategory::DecimalNumber => "Nd",
        GeneralCategory::LetterNumber => "Nl",
        GeneralCategory::OtherNumber => "No",
        GeneralCategory::ConnectorPunctuation => "Pc",
        GeneralCategory::DashPunctuation => "Pd",
        GeneralCategory::OpenPunctuation => "Ps",
        GeneralCategory::ClosePunctuation => "Pe",
        GeneralCategory::InitialPunctuation => "Pi",
        GeneralCategory::FinalPunctuation => "Pf",
        GeneralCategory::OtherPunctuation => "Po",
        GeneralCategory::MathSymbol => "Sm",
        GeneralCategory::CurrencySymbol => "Sc",
        GeneralCategory::ModifierSymbol => "Sk",
        GeneralCategory::OtherSymbol => "So",
        GeneralCategory::SpaceSeparator => "Zs",
        GeneralCategory::LineSeparator => "Zl",
        GeneralCategory::ParagraphSeparator => "Zp",
        GeneralCategory::Control => "Cc",
        GeneralCategory::Format => "Cf",
        GeneralCategory::Surrogate => "Cs",
        GeneralCategory::PrivateUse => "Co",
        GeneralCategory::Unassigned => "Cn",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_counts_are_those_of_the_standard() {
        let all: Vec<_> = characters().collect();
        let mut by_category: BTreeMap<&str, usize> = BTreeMap::new();
        let mut by_script: BTreeMap<&str, usize> = BTreeMap::new();
        for character in &all {
            *by_category.entry(character.category).or_default() += 1;
            *by_script.entry(character.script).or_default() += 1;
        }
        assert_eq!(all.len(), COUNT, "{by_category:?}");
        assert_eq!(by_category["Cc"], 65);
        // Unicode 17.0 counts 159,801 graphic and format characters.
        assert_eq!(COUNT - by_category["Cc"], 159_801);
        assert!(["Cn", "Co", "Cs"].iter().all(|category| !by_category.contains_key(category)));
        assert_eq!((by_category["Zl"], by_category["Zp"], by_category["Lt"]), (1, 1, 31));
        assert_eq!((by_script["Runic"], by_script["Ogham"]), (86, 29));
        assert!(by_script.len() > 160 && !by_script.contains_key("Unknown"), "{by_script:?}");
    }

    #[test]
    fn characters_are_what_they_are() {
        let find = |value| characters().find(|character| character.value == value).unwrap();
        let small_a = find('a');
        assert_eq!(small_a.code_point(), "U+0061");
        let columns = |c: Character| (c.name, c.category, c.script);
        assert_eq!(columns(small_a), ("LATIN SMALL LETTER A".into(), "Ll", "Latin"));
        assert_eq!(columns(find('\n')), ("<control-000A>".into(), "Cc", "Common"));
        assert_eq!(columns(find('漢')), ("CJK UNIFIED IDEOGRAPH-6F22".into(), "Lo", "Han"));
        assert_eq!(columns(find('한')), ("HANGUL SYLLABLE HAN".into(), "Lo", "Hangul"));
    }
}
