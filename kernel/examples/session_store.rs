//! Sessions of a web site: many small writes that may be lost in a power cut, a log-in that may not, and expiry.
//!
//! A second keyspace orders the sessions by when they expire, so that sweeping looks only at those that are due.

use holdfast::blocking::{Db, TypedKeyspace};
use holdfast::{Durability, Isolation, KeyspaceOptions, Options, Result, TransactionOptions};

/// A session holds when it expires, in seconds, and its user.
struct Sessions {
    db: Db,
    by_token: TypedKeyspace<String, String>,
    by_expiry: TypedKeyspace<(u64, String), ()>,
}

const LIFETIME_S: u64 = 1800;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("holdfast-sessions-{}", std::process::id()));
    let db = Db::open(&dir, Options::default())?;
    let sessions = Sessions {
        by_token: db.create_keyspace("by_token", KeyspaceOptions::default())?.typed(),
        by_expiry: db.create_keyspace("by_expiry", KeyspaceOptions::default())?.typed(),
        db,
    };
    for number in 0..100 {
        sessions.touch(&format!("token-{number}"), &format!("user-{number}"), number, Durability::Sync)?;
    }
    // Half of them come back later. Nobody is hurt if a power cut forgets that, so it need not wait for the disk.
    for number in 0..50 {
        sessions.touch(
            &format!("token-{number}"),
            &format!("user-{number}"),
            1000 + number,
            Durability::Buffered,
        )?;
    }
    let ended = sessions.sweep(LIFETIME_S + 99)?;
    println!("{ended} sessions ended, {} live", sessions.by_token.range(..)?.count());
    assert_eq!((ended, sessions.by_token.range(..)?.count()), (50, 50));
    assert_eq!(sessions.user("token-7", 1500)?.as_deref(), Some("user-7"));
    assert_eq!(sessions.user("token-70", 1500)?, None);
    sessions.db.close()?;
    std::fs::remove_dir_all(&dir).expect("the example's own directory can be removed");
    Ok(())
}

impl Sessions {
    /// Begins a session, or prolongs it.
    fn touch(&self, token: &str, user: &str, now_s: u64, durability: Durability) -> Result<()> {
        let mut txn = self.db.begin(TransactionOptions { isolation: Isolation::Snapshot, durability });
        if let Some((expiry_s, _)) = self.by_token.get_in(&txn, &token.into())?.as_deref().and_then(split) {
            self.by_expiry.delete_in(&mut txn, &(expiry_s, token.into()))?;
        }
        let expiry_s = now_s + LIFETIME_S;
        self.by_token.put_in(&mut txn, &token.into(), &format!("{expiry_s} {user}"))?;
        self.by_expiry.put_in(&mut txn, &(expiry_s, token.into()), &())?;
        txn.commit()?;
        Ok(())
    }

    /// The user of a session that has not expired.
    fn user(&self, token: &str, now_s: u64) -> Result<Option<String>> {
        let session = self.by_token.get(&token.into())?;
        let live = session.as_deref().and_then(split).filter(|(expiry_s, _)| *expiry_s > now_s);
        Ok(live.map(|(_, user)| user.to_string()))
    }

    /// Removes what expired, and tells how many sessions that were.
    fn sweep(&self, now_s: u64) -> Result<u64> {
        let mut txn = self.db.begin(TransactionOptions::default());
        let mut ended = 0;
        for entry in self.by_expiry.range_in(&txn, ..(now_s + 1, String::new()))? {
            let (key, ()) = entry?;
            self.by_token.delete_in(&mut txn, &key.1)?;
            self.by_expiry.delete_in(&mut txn, &key)?;
            ended += 1;
        }
        txn.commit()?;
        Ok(ended)
    }
}

fn split(session: &str) -> Option<(u64, &str)> {
    let (expiry_s, user) = session.split_once(' ')?;
    Some((expiry_s.parse().ok()?, user))
}
