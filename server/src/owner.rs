//! Whose a database is, as far as that matters to a command of another user.
//!
//! Files belong to who makes them. What a command of another user makes in a database, if only by recovering what a
//! crash left, may lock its owner out: root's new log is nothing that its owner may write to. So where the directory
//! belongs to somebody else a command that reads writes nothing, and one that writes says what it does. It is not
//! refused: a group may share a database, and in a container root often works on what another user owns outside.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Uid, User, geteuid};

use crate::stderr;

/// The owner of a directory, if that is not who this process works as.
pub(crate) struct OtherOwner {
    owner: Uid,
    here: Uid,
}

impl OtherOwner {
    /// Nothing too if there is no such directory, or none that can be looked at: the opening tells of that.
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        let (owner, here) = (Uid::from_raw(dir.metadata().ok()?.uid()), geteuid());
        (owner != here).then_some(Self { owner, here })
    }

    /// What to begin a command with, so that its files belong to the owner.
    pub(crate) fn hint(&self) -> String {
        match name(self.owner) {
            Some(name) => format!("`sudo -u {name} holdfast …`"),
            None => format!("`sudo -u '#{}' holdfast …`", self.owner),
        }
    }

    /// Tells who writes, and to whose database.
    pub(crate) fn tell_writing(&self, dir: &Path, as_json: bool) {
        let (owner, here, hint) = (shown(self.owner), shown(self.here), self.hint());
        let what = format!(
            "{} belongs to {owner}, and this writes to it as {here}: the files it makes may lock {owner} out; {hint} \
             makes them the owner's",
            dir.display()
        );
        stderr::note(as_json, &what);
    }
}

fn shown(user: Uid) -> String {
    name(user).map_or(format!("user {user}"), |name| format!("{name} (user {user})"))
}

/// The name in the system's list of users, if it is there.
fn name(user: Uid) -> Option<String> {
    User::from_uid(user).ok().flatten().map(|user| user.name)
}
