//! Fuzz target of the PyTorch reader: both containers, and the pickle machine by itself.
//!
//! The machine's inputs are put into a minimal archive here, so that mutations are not spent on
//! the container; the first byte says how an input is meant.

#![no_main]

mod checkpoint;
mod seeds;
#[path = "../../crates/weights/src/tests/torch.rs"]
mod torch;

use libfuzzer_sys::fuzz_target;
use torch::{Pickle, archive, beside, entries, floats, legacy, of_class, one, with_state, zip};

/// An input is a whole file, in either container.
const FILE: u8 = b'f';

fuzz_target!(
    init: seeds::plant(&seeds()),
    |input: &[u8]| match input.split_first() {
        Some((&FILE, file)) => checkpoint::read(file),
        Some((_, pickle)) => checkpoint::read(&archive(pickle, &[&data()])),
        None => {}
    }
);

/// The content of the one storage.
fn data() -> Vec<u8> {
    floats(&[0.5, 1.0, -2.0, 4.0])
}

fn seeds() -> Vec<Vec<u8>> {
    let storage = ("FloatStorage", "0", 4);
    let pickles = [
        one(storage, (0, &[2, 2], &[2, 1])),
        one(storage, (1, &[2], &[2])),
        one(("HalfStorage", "0", 8), (0, &[2, 4], &[1, 2])),
        training(),
        framed(),
        with_state(),
        of_class(("torch", "Tensor")),
        beside(("torch", "device")),
    ];
    let mut seeds = Vec::new();
    for pickle in &pickles {
        let data = data();
        let width = if pickle.windows(4).any(|text| text == b"Half") {
            8
        } else {
            4
        };
        let files = [
            zip(&entries(pickle, &[&data]), false),
            zip(&entries(pickle, &[&data]), true),
            legacy(pickle, &[("0", width, &data)]),
        ];
        seeds.push([b"p", pickle.as_slice()].concat());
        seeds.extend(files.iter().map(|file| [&[FILE], file.as_slice()].concat()));
    }
    seeds
}

/// What a training program saves: the state under `model`, with attributes, beside other things.
fn training() -> Vec<u8> {
    let storage = ("FloatStorage", "0", 4);
    Pickle::new()
        .op(b"}q\0(")
        .text("model")
        .global("collections", "OrderedDict")
        .op(b")Rq\x01(")
        .text("w")
        .global("torch._utils", "_rebuild_parameter")
        .tensor(storage, (0, &[4], &[1]))
        .op(b"\x88}\x87R")
        .text("v")
        .tensor(storage, (3, &[], &[]))
        .op(b"u}")
        .text("_metadata")
        .op(b"}sb")
        .text("epoch")
        .op(b"K\x03")
        .text("rest")
        .op(b"](G\0\0\0\0\0\0\0\0J\xff\xff\xff\xffM\x01\x02NU\x01xC\x01y\x8b\x01\0\0\0\x07h\x01e")
        .text("size")
        .global("torch", "Size")
        .ints(&[1, 2])
        .op(b"\x85Ru")
        .stop()
}

/// The opcodes of protocol 4.
fn framed() -> Vec<u8> {
    Pickle(vec![0x80, 4])
        .op(b"\x95\0\0\0\0\0\0\0\0}\x94\x8c\x01w\x94")
        .op(b"\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94(")
        .op(b"(\x8c\x07storage\x94\x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93\x94")
        .op(b"\x8c\x010\x94\x8c\x03cpu\x94K\x04t\x94QK\0K\x02K\x02\x86\x94K\x02K\x01\x86\x94\x89")
        .op(b"\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94t\x94R\x94s")
        .stop()
}
