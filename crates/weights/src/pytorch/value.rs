//! What a pickle builds: plain data, and descriptions of storages and tensors.
//!
//! Containers live in one arena and refer to each other by number, so cycles and any depth of
//! nesting cost nothing special, neither while they are built nor when they are dropped.

use safetensors::Dtype;

/// Most sides of a tensor; published weights have up to 5. Bounds what one small instruction can
/// make the machine copy.
pub(super) const MOST_SIDES: usize = 16;

/// A value on the machine's stack; texts borrow from the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: its little-endian two's complement.
    Long(&'a [u8]),
    /// A float or a string of bytes, which no tensor needs.
    Other,
    Text(&'a str),
    Global(Global),
    /// A place in the arena.
    Node(usize),
}

/// The names that a pickle may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`
    Tensor,
    /// `torch._utils._rebuild_parameter`
    Parameter,
    /// `torch._utils._rebuild_parameter_with_state`: a parameter with Python attributes.
    ParameterWithState,
    /// `torch._tensor._rebuild_from_type_v2`: a tensor of a class of its own, or with Python
    /// attributes.
    OfType,
    /// `torch.Tensor` and `torch.nn.Parameter`: what a tensor may be of.
    Class,
    /// What makes values that no tensor needs: devices, sets, counts, bytes.
    Beside,
    /// `torch.Size`
    Size,
    /// `torch.FloatStorage` and its kin: the type of a storage's values.
    Storage(Dtype),
    /// `torch.float32` and its kin, found in configurations beside the tensors.
    Dtype,
}

impl Global {
    /// The global `module.name`, if it is one of those allowed.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch._utils", "_rebuild_parameter_with_state") => Self::ParameterWithState,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::OfType,
            ("torch", "Tensor")
            | ("torch.nn.parameter", "Parameter" | "Buffer")
            | ("torch.nn", "Parameter" | "Buffer") => Self::Class,
            ("torch", "device")
            | ("torch.serialization", "_get_layout")
            | ("collections", "Counter")
            | ("_codecs", "encode")
            | ("builtins" | "__builtin__", "set" | "bytearray" | "complex") => Self::Beside,
            ("torch", "Size") => Self::Size,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            (
                "torch",
                "float32" | "float64" | "float16" | "bfloat16" | "int64" | "int32" | "int16"
                | "int8" | "uint8" | "bool",
            ) => Self::Dtype,
            _ => return None,
        })
    }
}

/// A container or a description, in the arena.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Tuple(Box<[Value<'a>]>),
    List(Vec<Value<'a>>),
    Dict {
        items: Vec<(Value<'a>, Value<'a>)>,
        /// An `OrderedDict`, which may carry attributes; they are dropped.
        ordered: bool,
    },
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
}

/// A row of values in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    /// How many values the pickle promises.
    pub(super) count: usize,
}

/// A tensor: value `[i, j, …]` is number `offset + i * strides[0] + j * strides[1] + …` of the
/// storage. Not checked against it yet.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What a pickle left behind.
pub(super) struct Pickled<'a> {
    pub(super) root: Value<'a>,
    pub(super) nodes: Vec<Node<'a>>,
    /// One past its last byte.
    pub(super) end: usize,
}

impl<'a> Pickled<'a> {
    /// The items of a dictionary; `None` for anything else.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.node(value)? {
            Node::Dict { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The node that `value` refers to.
    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(at) => self.nodes.get(at),
            _ => None,
        }
    }
}
