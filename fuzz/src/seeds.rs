//! How a target's first inputs come to be.

/// Where `DEBIAS_FUZZ_SEEDS` names a folder, writes `seeds` there and ends the program.
pub(super) fn plant(seeds: &[Vec<u8>]) {
    let Some(dir) = std::env::var_os("DEBIAS_FUZZ_SEEDS") else {
        return;
    };
    for (number, seed) in seeds.iter().enumerate() {
        let path = std::path::Path::new(&dir).join(format!("seed-{number}"));
        std::fs::write(path, seed).expect("the folder is writable");
    }
    std::process::exit(0);
}
