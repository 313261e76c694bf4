//! Fuzz target of the safetensors reader: header, offsets, values.

#![no_main]

mod checkpoint;
mod seeds;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::plant(&seeds()),
    |bytes: &[u8]| checkpoint::read(bytes)
);

fn seeds() -> Vec<Vec<u8>> {
    [
        ("{}", 0),
        (r#"{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, 4),
        (
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#,
            12,
        ),
        (
            r#"{"h":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"e":{"dtype":"I64","shape":[0,4],"data_offsets":[6,6]},"u":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}  "#,
            8,
        ),
    ]
    .iter()
    .map(|(header, length)| {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend((0..*length).map(|at| at as u8));
        file
    })
    .collect()
}
