//! The export for the accountants: all orders of one moment in one file, `orders.csv`.
//!
//! A new export replaces the old one in one step: it is written beside it, made durable, and renamed over it. So at any
//! moment and after any crash there is a whole one, or none yet; its last line says how many it has.

use std::path::Path;
use std::sync::Arc;

use holdfast::env::{Buf, Env, File, IoError, IoErrorKind, IoResult, OpenOptions};

use crate::{Order, OrderNumber, OrderState};

const NAME: &str = "orders.csv";
const NAME_IN_WORK: &str = "orders.csv.new";

/// Replaces the export in `folder`.
pub async fn write(env: &dyn Env, folder: &Path, orders: &[(OrderNumber, Order)]) -> IoResult<()> {
    let mut text = String::from("order,item,units,state\n");
    for (number, order) in orders {
        text.push_str(&format!("{number},{},{},{}\n", order.item, order.units, order.state.name()));
    }
    text.push_str(&format!("end,{},,\n", orders.len()));
    let (name, in_work) = (folder.join(NAME), folder.join(NAME_IN_WORK));
    // What an attempt before this one has left.
    match env.disk().remove(&in_work).await {
        Err(error) if error.kind != IoErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = env.disk().open(&in_work, OpenOptions::create()).await?;
    write_all(&file, text.as_bytes()).await?;
    file.sync_all().await?;
    env.disk().rename(&in_work, &name).await?;
    env.disk().sync_dir(folder).await
}

/// The text of the export in `folder`, if there is one.
pub async fn read(env: &dyn Env, folder: &Path) -> IoResult<Option<String>> {
    let file = match env.disk().open(&folder.join(NAME), OpenOptions::read()).await {
        Err(error) if error.kind == IoErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    loop {
        let (count, buffer) = file.read_at(bytes.len() as u64, Buf::zeroed(4096)).await;
        match count {
            Ok(0) => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error),
        }
    }
}

/// The orders of an export.
///
/// # Errors
/// In words: what is wrong with it, and in which line.
pub fn parse(text: &str) -> Result<Vec<(OrderNumber, Order)>, String> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line) != Some("order,item,units,state") {
        return Err("the export has no heading".to_owned());
    }
    let mut orders = Vec::new();
    for (number, line) in lines {
        let wrong = || format!("line {} of the export: {line:?}", number + 1);
        let fields: Vec<&str> = line.split(',').collect();
        match fields[..] {
            ["end", count, "", ""] if count.parse() == Ok(orders.len()) => return Ok(orders),
            [order, item, units, state] => {
                let parsed = || Some((order.parse().ok()?, item.parse().ok()?, units.parse().ok()?));
                let (order, item, units) = parsed().ok_or_else(wrong)?;
                let state = OrderState::of_name(state).ok_or_else(wrong)?;
                orders.push((order, Order { item, units, state }));
            }
            _ => return Err(wrong()),
        }
    }
    Err(format!("the export breaks off after {} orders", orders.len()))
}

async fn write_all(file: &Arc<dyn File>, bytes: &[u8]) -> Result<(), IoError> {
    let mut written = 0;
    while written < bytes.len() {
        let (count, _) = file.write_at(written as u64, Buf::copy_of(&bytes[written..])).await;
        written += count?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_that_breaks_off_is_noticed() {
        let whole = "order,item,units,state\n7,1,2,open\n8,1,3,shipped\nend,2,,\n";
        let orders = parse(whole).expect("it is whole");
        assert_eq!(orders[1], (8, Order { item: 1, units: 3, state: OrderState::Shipped }));
        for length in 0..whole.len() - 1 {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
        assert!(parse(&whole.replace("end,2", "end,3")).is_err());
    }
}
