//! Which fault classes a test asks for.

use crate::fault::FaultClass;

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Faults {
    pub(super) classes: Vec<FaultClass>,
}

impl Faults {
    /// The classes that some words name, separated by commas.
    pub(super) fn of(words: &str) -> Result<Self, String> {
        let mut named = [false; FaultClass::ALL.len()];
        for word in words.split(',').map(str::trim) {
            let of_disk = FaultClass::ALL.into_iter().filter(|class| !class.is_of_network());
            let classes: Vec<FaultClass> = match word {
                "none" => Vec::new(),
                "all" => of_disk.filter(|class| !class.may_lose_suffix()).collect(),
                "lossy" => of_disk.collect(),
                name => match FaultClass::of_name(name).filter(|class| !class.is_of_network()) {
                    Some(class) => vec![class],
                    None => {
                        let known: Vec<&str> = of_disk.map(FaultClass::name).collect();
                        return Err(format!(
                            "faults = {words:?}: there is no class {name:?}; there are none, all, lossy, {}",
                            known.join(", ")
                        ));
                    }
                },
            };
            classes.into_iter().for_each(|class| named[class as usize] = true);
        }
        let classes = FaultClass::ALL.into_iter().filter(|class| named[*class as usize]);
        Ok(Self { classes: classes.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keeps_what_was_acknowledged_and_lossy_has_to_be_asked_for() {
        let of = |words| Faults::of(words).expect("known words").classes;
        assert!(of("none").is_empty());
        assert!(of("all").iter().all(|class| !class.may_lose_suffix()));
        assert!(of("all").contains(&FaultClass::BitRot) && !of("all").contains(&FaultClass::LyingSync));
        assert_eq!(of("lossy").len(), of("all").len() + 4);
        assert_eq!(of("stall, sync_error"), [FaultClass::SyncError, FaultClass::Stall]);
        let refused = Faults::of("all,message_lost").expect_err("an application has no network");
        assert!(refused.contains("\"message_lost\"") && refused.contains("lying_sync"), "{refused}");
    }
}
