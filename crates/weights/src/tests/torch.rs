//! Hand-made PyTorch files: a writer of pickles and of both containers.

/// A pickle in the making, opcode by opcode.
#[derive(Clone, Default)]
pub(super) struct Pickle(pub(super) Vec<u8>);

impl Pickle {
    /// Protocol 2, as `torch.save` writes it.
    pub(super) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(super) fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        let length = text.len() as u32;
        self.op(b"X").op(&length.to_le_bytes()).op(text.as_bytes())
    }

    pub(super) fn int(self, value: i64) -> Self {
        self.op(&[0x8a, 8]).op(&value.to_le_bytes())
    }

    pub(super) fn ints(self, values: &[i64]) -> Self {
        let open = self.op(b"(");
        values.iter().fold(open, |p, value| p.int(*value)).op(b"t")
    }

    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A tensor of storage `key`, which holds `count` values of type `kind`.
    pub(super) fn tensor(self, storage: (&str, &str, i64), view: (i64, &[i64], &[i64])) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .arguments(storage, view)
            .op(b"R")
    }

    /// What a tensor is rebuilt from, as a tuple.
    fn arguments(
        self,
        (kind, key, count): (&str, &str, i64),
        (offset, shape, strides): (i64, &[i64], &[i64]),
    ) -> Self {
        self.op(b"((")
            .text("storage")
            .global("torch", kind)
            .text(key)
            .text("cpu")
            .int(count)
            .op(b"tQ")
            .int(offset)
            .ints(shape)
            .ints(strides)
            .op(b"\x89")
            .global("collections", "OrderedDict")
            .op(b")Rt")
    }

    /// The end of the pickle.
    pub(super) fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// A dictionary of one tensor `w`.
pub(super) fn one(storage: (&str, &str, i64), view: (i64, &[i64], &[i64])) -> Vec<u8> {
    Pickle::new()
        .op(b"}")
        .text("w")
        .tensor(storage, view)
        .op(b"s")
        .stop()
}

/// A dictionary of one tensor `w` with a Python attribute, of class `module.name`.
pub(super) fn of_class((module, name): (&str, &str)) -> Vec<u8> {
    Pickle::new()
        .op(b"}")
        .text("w")
        .global("torch._tensor", "_rebuild_from_type_v2")
        .op(b"(")
        .global("torch._utils", "_rebuild_tensor_v2")
        .global(module, name)
        .arguments(("FloatStorage", "0", 2), (0, &[2], &[1]))
        .op(b"}")
        .text("tag")
        .text("x")
        .op(b"stRs")
        .stop()
}

/// The same of a parameter.
pub(super) fn with_state() -> Vec<u8> {
    Pickle::new()
        .op(b"}")
        .text("w")
        .global("torch._utils", "_rebuild_parameter_with_state")
        .op(b"(")
        .tensor(("FloatStorage", "0", 2), (0, &[2], &[1]))
        .op(b"\x88")
        .global("collections", "OrderedDict")
        .op(b")R}")
        .text("tag")
        .text("x")
        .op(b"stRs")
        .stop()
}

/// The same tensor, and beside it what `module.name` makes of a text.
pub(super) fn beside((module, name): (&str, &str)) -> Vec<u8> {
    Pickle::new()
        .op(b"}")
        .text("w")
        .tensor(("FloatStorage", "0", 2), (0, &[2], &[1]))
        .op(b"s")
        .text("beside")
        .global(module, name)
        .op(b"(")
        .text("cpu")
        .op(b"tRs")
        .stop()
}

/// One entry of an archive.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) name: String,
    /// The name in the local header.
    pub(super) local: String,
    pub(super) data: Vec<u8>,
    pub(super) method: u16,
    pub(super) flags: u16,
    /// Moves the offset in the directory.
    pub(super) shift: i64,
    /// Added to both sizes in the directory.
    pub(super) longer: i64,
}

/// The entry `name` as torch would write it.
pub(super) fn stored(name: &str, data: &[u8]) -> Stored {
    Stored {
        name: name.to_owned(),
        local: name.to_owned(),
        data: data.to_vec(),
        method: 0,
        flags: 0x808,
        shift: 0,
        longer: 0,
    }
}

/// The archive of `entries`; with `wide` all sizes and offsets are in zip64 fields.
pub(super) fn zip(entries: &[Stored], wide: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = (out.len() as i64 + entry.shift) as u64;
        let size = (entry.data.len() as i64 + entry.longer) as u64;
        out.extend_from_slice(b"PK\x03\x04\0\0");
        out.extend_from_slice(&entry.flags.to_le_bytes());
        out.extend_from_slice(&entry.method.to_le_bytes());
        // Sizes follow the data, as the flag says; padding aligns the data.
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&(entry.local.len() as u16).to_le_bytes());
        out.extend_from_slice(&7u16.to_le_bytes());
        out.extend_from_slice(entry.local.as_bytes());
        out.extend_from_slice(b"FB\x03\0ZZZ");
        out.extend_from_slice(&entry.data);

        directory.extend_from_slice(b"PK\x01\x02\0\0\0\0");
        directory.extend_from_slice(&entry.flags.to_le_bytes());
        directory.extend_from_slice(&entry.method.to_le_bytes());
        directory.extend_from_slice(&[0; 8]);
        let narrow = |value: u64| if wide { u32::MAX } else { value as u32 };
        directory.extend_from_slice(&narrow(size).to_le_bytes());
        directory.extend_from_slice(&narrow(size).to_le_bytes());
        directory.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
        directory.extend_from_slice(&(if wide { 28u16 } else { 0 }).to_le_bytes());
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&narrow(offset).to_le_bytes());
        directory.extend_from_slice(entry.name.as_bytes());
        if wide {
            directory.extend_from_slice(&[1, 0, 24, 0]);
            for value in [size, size, offset] {
                directory.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    let (start, count, size) = (
        out.len() as u64,
        entries.len() as u64,
        directory.len() as u64,
    );
    out.extend_from_slice(&directory);
    if wide {
        let end = out.len() as u64;
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&44u64.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
        for value in [count, count, size, start] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
    }
    let narrow = |value: u64| if wide { u32::MAX } else { value as u32 };
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&(narrow(count) as u16).to_le_bytes());
    out.extend_from_slice(&(narrow(count) as u16).to_le_bytes());
    out.extend_from_slice(&narrow(size).to_le_bytes());
    out.extend_from_slice(&narrow(start).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}

/// An archive of `pickle` and the storages, which have the keys 0, 1, …
pub(super) fn archive(pickle: &[u8], storages: &[&[u8]]) -> Vec<u8> {
    zip(&entries(pickle, storages), false)
}

/// The entries of [`archive`].
pub(super) fn entries(pickle: &[u8], storages: &[&[u8]]) -> Vec<Stored> {
    let mut entries = vec![
        stored("x/data.pkl", pickle),
        stored("x/byteorder", b"little"),
    ];
    for (key, data) in storages.iter().enumerate() {
        entries.push(stored(&format!("x/data/{key}"), data));
    }
    entries.push(stored("x/version", b"3\n"));
    entries
}

/// The five pickles of the older layout, and its storages: key, number of values, bytes.
pub(super) fn legacy(object: &[u8], storages: &[(&str, i64, &[u8])]) -> Vec<u8> {
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let mut out = Pickle::new().op(&[0x8a, 10]).op(&magic).stop();
    out.extend(Pickle::new().op(b"M\xe9\x03").stop());
    let system = Pickle::new().op(b"}(").text("protocol_version").int(1001);
    out.extend(system.text("little_endian").op(b"\x88u").stop());
    out.extend_from_slice(object);
    let keys = Pickle::new().op(b"](");
    out.extend(
        storages
            .iter()
            .fold(keys, |keys, (key, ..)| keys.text(key))
            .op(b"e")
            .stop(),
    );
    for (_, count, data) in storages {
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(data);
    }
    out
}

/// `values` as stored F32.
pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
