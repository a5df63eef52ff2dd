//! Full-text search: documents in one keyspace, an index from words to documents in another, always in step.
//!
//! The index has one entry for each word of each document, keyed by (word, document). A document and its entries change
//! in one transaction, so a reader never finds a word that the document no longer holds.

use std::collections::BTreeSet;

use holdfast::blocking::{Db, TypedKeyspace};
use holdfast::{KeyspaceOptions, Options, Result};

type Documents = TypedKeyspace<u64, String>;
type Index = TypedKeyspace<(String, u64), ()>;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("holdfast-index-{}", std::process::id()));
    let db = Db::open(&dir, Options::default())?;
    let documents: Documents = db.create_keyspace("documents", KeyspaceOptions::default())?.typed();
    let index: Index = db.create_keyspace("words", KeyspaceOptions::default())?.typed();

    let texts = ["The quick brown fox", "A lazy brown dog", "The dog and the fox sleep"];
    for (number, text) in (1..).zip(texts) {
        store(&db, &documents, &index, number, text)?;
    }
    assert_eq!(search(&index, &["brown"])?, [1, 2]);
    assert_eq!(search(&index, &["the", "fox"])?, [1, 3]);

    store(&db, &documents, &index, 1, "The quick red fox")?;
    for words in [&["brown"][..], &["the", "fox"], &["red"]] {
        println!("{words:?} stand in:");
        for number in search(&index, words)? {
            println!("  {number}: {}", documents.get(&number)?.unwrap_or_default());
        }
    }
    assert_eq!(search(&index, &["brown"])?, [2]);
    assert_eq!(search(&index, &["red"])?, [1]);
    db.close()?;
    std::fs::remove_dir_all(&dir).expect("the example's own directory can be removed");
    Ok(())
}

/// Stores a document in place of its earlier text, and brings the index into step.
fn store(db: &Db, documents: &Documents, index: &Index, number: u64, text: &str) -> Result<()> {
    let mut txn = db.begin(Default::default());
    for word in words(&documents.get_in(&txn, &number)?.unwrap_or_default()) {
        index.delete_in(&mut txn, &(word, number))?;
    }
    for word in words(text) {
        index.put_in(&mut txn, &(word, number), &())?;
    }
    documents.put_in(&mut txn, &number, &text.to_string())?;
    txn.commit()?;
    Ok(())
}

/// The documents that hold all of the words, ascending.
fn search(index: &Index, words: &[&str]) -> Result<Vec<u64>> {
    let mut found: Option<BTreeSet<u64>> = None;
    for word in words {
        let entries: Result<BTreeSet<u64>> = index
            .with_prefix(&(word.to_string(),))?
            .map(|entry| entry.map(|((_, number), ())| number))
            .collect();
        let entries = entries?;
        found = Some(found.map_or(entries.clone(), |found| &found & &entries));
    }
    Ok(found.unwrap_or_default().into_iter().collect())
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}
