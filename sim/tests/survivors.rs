//! What a power loss may leave, against a model written from the contract and not from the implementation.
//!
//! The model keeps, for each 512-byte sector, every content that the sector may have: the one that was last made
//! durable and each one that it had since; likewise for the size, and for what a name is bound to. After a power
//! loss each sector, size and name must be one of these, and the next round starts from what was found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast::env::{Buf, Env, File, OpenOptions};
use holdfast_sim::{DrawnSurvivors, Odometer, Process, SECTOR, SimOptions, World};
use quickcheck::quickcheck;

const SECTORS: usize = 40;
const BYTES: usize = SECTORS * SECTOR as usize;

#[derive(Default)]
struct FileModel {
    bytes: Vec<u8>,
    size: usize,
    sectors: Vec<Vec<Vec<u8>>>,
    sizes: Vec<usize>,
}

impl FileModel {
    fn from_image(image: &[u8]) -> Self {
        let mut bytes = image.to_vec();
        bytes.resize(BYTES, 0);
        let sectors = bytes.chunks(SECTOR as usize).map(|sector| vec![sector.to_vec()]).collect();
        Self { bytes, size: image.len(), sectors, sizes: vec![image.len()] }
    }

    fn change(&mut self, offset: usize, len: usize, byte: u8) {
        self.bytes[offset..offset + len].fill(byte);
        for sector in offset / 512..(offset + len).div_ceil(512) {
            self.sectors[sector].push(self.bytes[sector * 512..sector * 512 + 512].to_vec());
        }
    }

    fn resize(&mut self, size: usize) {
        if size < self.size {
            self.change(size, self.size - size, 0);
        }
        self.size = size;
        self.sizes.push(size);
    }

    fn write(&mut self, offset: usize, len: usize, byte: u8) {
        self.change(offset, len, byte);
        if offset + len > self.size {
            self.size = offset + len;
            self.sizes.push(self.size);
        }
    }

    fn sync(&mut self) {
        for (number, versions) in self.sectors.iter_mut().enumerate() {
            *versions = vec![self.bytes[number * 512..number * 512 + 512].to_vec()];
        }
        self.sizes = vec![self.size];
    }

    fn sync_only(&mut self, offset: usize, len: usize) {
        for sector in offset / 512..(offset + len).div_ceil(512) {
            self.sectors[sector] = vec![self.bytes[sector * 512..sector * 512 + 512].to_vec()];
        }
        let end = offset + len;
        self.sizes.push(end);
        self.sizes.retain(|size| *size >= end);
    }

    fn check(&self, image: &[u8]) {
        assert!(self.sizes.contains(&image.len()), "size {} is none of {:?}", image.len(), self.sizes);
        for (number, sector) in image.chunks(SECTOR as usize).enumerate() {
            let known = self.sectors[number].iter().any(|version| version[..sector.len()] == *sector);
            assert!(known, "sector {number} has a content that it never had");
        }
    }
}

/// One step: what, where, how much.
type Step = (u8, u16, u16);

async fn change(file: &dyn File, model: &mut FileModel, direct: bool, dsync: bool, step: Step, byte: u8) {
    let unit = if direct { 512 } else { 1 };
    let offset = step.1 as usize % BYTES / unit * unit;
    let len = (step.2 as usize % 3000).min(BYTES - offset) / unit * unit;
    match step.0 % 8 {
        0..=3 if len > 0 => {
            let mut buf = Buf::zeroed(len);
            buf.fill(byte);
            assert_eq!(file.write_at(offset as u64, buf).await.0.expect("no fault"), len);
            model.write(offset, len, byte);
            if dsync {
                model.sync_only(offset, len);
            }
        }
        4 if len > 0 => {
            file.zero_range(offset as u64, len as u64).await.expect("no fault");
            model.write(offset, len, 0);
            if dsync {
                model.sync_only(offset, len);
            }
        }
        5 => {
            let len = len.min(model.size.saturating_sub(offset));
            file.punch_hole(offset as u64, len as u64).await.expect("no fault");
            model.change(offset, len, 0);
        }
        6 => {
            file.truncate(offset as u64).await.expect("no fault");
            if offset != model.size {
                model.resize(offset);
            }
        }
        7 => {
            file.sync_data().await.expect("no fault");
            model.sync();
        }
        _ => {}
    }
}

async fn file_rounds(world: World, direct: bool, dsync: bool, rounds: Vec<Vec<Step>>) {
    let process = world.process("db");
    process.disk().write_file("/file", b"");
    let mut byte = 0u8;
    for steps in rounds {
        let image = process.disk().read_file("/file");
        let env = process.env();
        let first = byte;
        byte = byte.wrapping_add(steps.len() as u8);
        let run = process.run(async move {
            let mut model = FileModel::from_image(&image);
            let mut options = OpenOptions::write();
            options.direct = direct;
            options.dsync = dsync;
            let file = env.disk().open("/file".as_ref(), options).await.expect("it is there");
            for (number, step) in steps.into_iter().enumerate() {
                change(&*file, &mut model, direct, dsync, step, first.wrapping_add(number as u8) | 1).await;
            }
            let (result, read) = file.read_at(0, Buf::zeroed(BYTES)).await;
            let count = result.expect("no fault");
            assert_eq!(read[..count], model.bytes[..model.size], "reads see every write");
            model
        });
        let model = run.await.expect("nobody killed it");
        process.power_loss();
        model.check(&process.disk().read_file("/file"));
        process.restart();
    }
}

quickcheck! {
    fn every_sector_has_a_content_it_once_had(seed: u64, rounds: Vec<Vec<Step>>) -> bool {
        holdfast_sim::run(seed, |world| file_rounds(world, false, false, rounds));
        true
    }

    fn direct_writes_survive_by_the_same_rules(seed: u64, rounds: Vec<Vec<Step>>) -> bool {
        holdfast_sim::run(seed, |world| file_rounds(world, true, false, rounds));
        true
    }

    fn a_dsync_write_is_durable_and_only_itself(seed: u64, rounds: Vec<Vec<Step>>) -> bool {
        holdfast_sim::run(seed, |world| file_rounds(world, true, true, rounds));
        true
    }

    fn every_name_has_a_binding_it_once_had(seed: u64, rounds: Vec<Vec<(u8, u8, u8)>>) -> bool {
        holdfast_sim::run(seed, |world| name_rounds(world, rounds));
        true
    }
}

/// Identities that each name may be bound to; the last one is the present one.
type NameModel = BTreeMap<PathBuf, Vec<Option<u64>>>;

fn name(number: u8) -> PathBuf {
    PathBuf::from(format!("/{}", number % 5))
}

async fn name_step(env: &dyn Env, model: &mut NameModel, step: (u8, u8, u8), identity: u64) {
    let (from, to) = (name(step.1), name(step.2));
    let present = |model: &NameModel, name: &PathBuf| *model[name].last().expect("never empty");
    let bind = |model: &mut NameModel, name: &PathBuf, to| {
        model.get_mut(name).expect("all names are in the model").push(to);
    };
    let disk = env.disk();
    match step.0 % 6 {
        0 | 1 if present(model, &from).is_none() => {
            let file = disk.open(&from, OpenOptions::create()).await.expect("the name is free");
            file.write_at(0, Buf::copy_of(&identity.to_le_bytes())).await.0.expect("no fault");
            file.sync_all().await.expect("no fault");
            bind(model, &from, Some(identity));
        }
        2 if present(model, &from).is_some() => {
            disk.remove(&from).await.expect("it is there");
            bind(model, &from, None);
        }
        3 if present(model, &from).is_some() && present(model, &from) != present(model, &to) => {
            disk.rename(&from, &to).await.expect("it is there");
            let moved = present(model, &from);
            bind(model, &to, moved);
            bind(model, &from, None);
        }
        4 if present(model, &from).is_some() && present(model, &to).is_none() => {
            disk.hard_link(&from, &to).await.expect("the name is free");
            let linked = present(model, &from);
            bind(model, &to, linked);
        }
        5 => {
            disk.sync_dir("/".as_ref()).await.expect("no fault");
            for bindings in model.values_mut() {
                bindings.drain(..bindings.len() - 1);
            }
        }
        _ => {}
    }
}

async fn name_rounds(world: World, rounds: Vec<Vec<(u8, u8, u8)>>) {
    let process = world.process("db");
    let mut model: NameModel = (0..5).map(|number| (name(number), vec![None])).collect();
    let mut identity = 0;
    for steps in rounds {
        let env = process.env();
        let mut mine = model.clone();
        let first = identity;
        identity += steps.len() as u64;
        let run = process.run(async move {
            for (number, step) in steps.into_iter().enumerate() {
                name_step(&*env, &mut mine, step, first + number as u64).await;
            }
            mine
        });
        model = run.await.expect("nobody killed it");
        process.power_loss();
        let mut links: BTreeMap<u64, u64> = BTreeMap::new();
        for (name, bindings) in &mut model {
            let found = process.disk().exists(name).then(|| {
                let bytes = process.disk().read_file(name);
                u64::from_le_bytes(bytes.try_into().expect("a named file kept its synced bytes"))
            });
            assert!(bindings.contains(&found), "{name:?} is {found:?}, never one of {bindings:?}");
            *bindings = vec![found];
            if let Some(found) = found {
                *links.entry(found).or_default() += 1;
            }
        }
        for (name, bindings) in &model {
            if let Some(identity) = bindings[0] {
                let metadata = process.disk().metadata(name).expect("it is there");
                assert_eq!(metadata.links, links[&identity], "link counts follow the names");
            }
        }
        process.restart();
    }
}

/// Loses power again and again over two sectors written without a sync over durable ones, and a created name: what each left.
async fn what_is_left(
    world: World,
    mut lose_power: impl FnMut(&World, &Process) -> bool,
) -> Vec<(u8, u8, bool)> {
    let process = world.process("db");
    process.disk().write_file("/old", &[1; 1024]);
    let env = process.env();
    let run = process.run(async move {
        let file = env.disk().open("/old".as_ref(), OpenOptions::write()).await.expect("it is there");
        let mut buf = Buf::zeroed(1024);
        buf.fill(2);
        file.write_at(0, buf).await.0.expect("no fault");
        env.disk().open("/new".as_ref(), OpenOptions::create()).await.expect("the name is free");
    });
    run.await.expect("nobody killed it");
    process.kill();
    let start = process.disk().snapshot();
    let mut images = Vec::new();
    loop {
        process.disk().restore(&start);
        process.restart();
        let is_last = !lose_power(&world, &process);
        let old = process.disk().read_file("/old");
        images.push((old[0], old[512], process.disk().exists("/new")));
        if is_last {
            return images;
        }
    }
}

/// 4 contents, 2 bindings of the name.
fn all_that_may_be_left() -> Vec<(u8, u8, bool)> {
    let contents = [1, 2].into_iter().flat_map(|first| [1, 2].map(|second| (first, second)));
    contents.flat_map(|(first, second)| [false, true].map(|is_there| (first, second, is_there))).collect()
}

#[test]
fn the_odometer_sees_each_legal_set_once() {
    let mut found = holdfast_sim::run(SimOptions::new(3), |world| {
        let mut odometer = Odometer::new(4);
        what_is_left(world, move |world, process| {
            world.survivors_from(&mut odometer, || process.power_loss());
            odometer.advance()
        })
    })
    .result;
    found.sort_unstable();
    assert_eq!(found, all_that_may_be_left());
}

#[test]
fn drawn_survivors_follow_their_seed_and_reach_every_set() {
    let drawn = || {
        holdfast_sim::run(SimOptions::new(3), |world| {
            let mut seeds = 0..100;
            what_is_left(world, move |world, process| {
                let seed = seeds.next().expect("it ends with the last one");
                world.survivors_from(&mut DrawnSurvivors::new(seed), || process.power_loss());
                !seeds.is_empty()
            })
        })
        .result
    };
    let mut found = drawn();
    assert_eq!(found, drawn());
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, all_that_may_be_left());
}
