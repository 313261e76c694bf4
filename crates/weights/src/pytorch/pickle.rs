//! The stack machine of pickles, reduced to what a dictionary of tensors needs.
//!
//! Every opcode outside the table of [`Machine::step`] is refused before it does anything. Memory
//! is bounded: one opcode adds at most one value, and opcodes are counted.

use std::collections::HashMap;

use super::value::{Global, Node, Pickled, Value};
use crate::error::{Error, Result, one_line};

/// Most opcodes of a pickle. A tensor takes about 31, so this is enough for 120,000 tensors, and
/// no pickle that was tried took more than 700 MB.
const MOST_STEPS: usize = 4_000_000;

/// What to do about a pickle that wants more than tensors.
const DISTRUST: &str = "convert the file to safetensors where you trust it";

/// What to do about a pickle that is damaged.
const FETCH: &str = "fetch the file again";

/// The machine, run once.
pub(super) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    file: &'a str,
    /// The next byte.
    pub(super) at: usize,
    /// The opcode at work, for messages.
    opcode_at: usize,
    steps: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pub(super) nodes: Vec<Node<'a>>,
}

impl<'a> Machine<'a> {
    /// A machine for the pickle that begins at byte `at` of `bytes`, a part of `file`.
    pub(super) fn new(bytes: &'a [u8], at: usize, file: &'a str) -> Self {
        Self {
            bytes,
            file,
            at,
            opcode_at: at,
            steps: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
        }
    }

    /// Runs to the STOP opcode.
    pub(super) fn run(mut self) -> Result<Pickled<'a>> {
        loop {
            self.opcode_at = self.at;
            self.charge(1)?;
            let opcode = self.byte()?;
            if opcode == b'.' {
                break;
            }
            self.step(opcode)?;
        }
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.damaged("it ends with unused values"));
        }
        Ok(Pickled {
            root,
            nodes: self.nodes,
            end: self.at,
        })
    }

    /// Every opcode that is allowed, by the names of Python's `pickletools`.
    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => self.proto()?,
            0x95 => drop(self.take(8)?), // FRAME: a hint for buffered readers
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.discard()?,
            b'1' => drop(self.pop_mark()?),
            b'2' => self.push(*self.top()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => self.number::<1>()?,
            b'M' => self.number::<2>()?,
            0x8a => self.long::<1>()?,
            0x8b => self.long::<4>()?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'U' => self.string::<1>()?,
            b'T' => self.string::<4>()?,
            b'C' => self.blob::<1>()?,
            b'B' => self.blob::<4>()?,
            0x8e => self.blob::<8>()?,
            b')' => self.add(Node::Tuple(Box::new([]))),
            b't' => {
                let items = self.pop_mark()?;
                self.add(Node::Tuple(items.into()));
            }
            0x85 => self.tuple::<1>()?,
            0x86 => self.tuple::<2>()?,
            0x87 => self.tuple::<3>()?,
            b']' => self.add(Node::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.add(Node::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.add(Node::Dict {
                items: Vec::new(),
                ordered: false,
            }),
            b'd' => {
                let items = self.pop_mark()?;
                self.add(Node::Dict {
                    items: Vec::new(),
                    ordered: false,
                });
                self.insert(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                let value = self.reduce(callable, arguments)?;
                self.push(value);
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.persistent(id)?;
                self.add(Node::Storage(storage));
            }
            b'q' => {
                let [key] = self.array()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key)?;
            }
            0x94 => {
                // Fits: the memo has at most one entry per opcode.
                self.remember(self.memo.len() as u32)?;
            }
            b'h' => {
                let [key] = self.array()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            _ => return Err(self.forbidden(opcode)),
        }
        Ok(())
    }

    /// Counts `steps`, each of which adds at most one value.
    pub(super) fn charge(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MOST_STEPS {
            return Err(self.refused(format!("it takes more than {MOST_STEPS} steps")));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    /// Puts `node` into the arena and a reference to it on the stack.
    fn add(&mut self, node: Node<'a>) {
        let value = self.node(node);
        self.push(value);
    }

    pub(super) fn node(&mut self, node: Node<'a>) -> Value<'a> {
        self.nodes.push(node);
        Value::Node(self.nodes.len() - 1)
    }

    /// The height below which nothing may be taken before the mark is.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        if self.stack.len() > self.floor()
            && let Some(value) = self.stack.pop()
        {
            return Ok(value);
        }
        Err(self.damaged("it takes a value from an empty stack"))
    }

    fn top(&self) -> Result<&Value<'a>> {
        self.stack[self.floor()..]
            .last()
            .ok_or_else(|| self.damaged("it takes a value from an empty stack"))
    }

    /// Everything above the last mark, which goes too.
    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => Err(self.damaged("it closes a mark that it never opened")),
        }
    }

    /// POP takes a mark where there is no value above one.
    fn discard(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn tuple<const N: usize>(&mut self) -> Result<()> {
        let mut items = [Value::None; N];
        for item in items.iter_mut().rev() {
            *item = self.pop()?;
        }
        self.add(Node::Tuple(items.into()));
        Ok(())
    }

    /// The node on top of the stack.
    fn container(&mut self) -> Result<Option<&mut Node<'a>>> {
        let top = *self.top()?;
        Ok(match top {
            Value::Node(at) => self.nodes.get_mut(at),
            _ => None,
        })
    }

    fn append(&mut self, new: Vec<Value<'a>>) -> Result<()> {
        match self.container()? {
            Some(Node::List(items)) => {
                items.extend(new);
                Ok(())
            }
            _ => Err(self.damaged("it appends to something that is no list")),
        }
    }

    fn insert(&mut self, new: &[Value<'a>]) -> Result<()> {
        let (pairs, rest) = new.as_chunks::<2>();
        match self.container()? {
            Some(Node::Dict { items, .. }) if rest.is_empty() => {
                items.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            Some(Node::Dict { .. }) => Err(self.damaged("it sets a key without a value")),
            _ => Err(self.damaged("it sets a key of something that is no dictionary")),
        }
    }

    /// BUILD gives an object its attributes. A state dictionary has some (`_metadata`), which no
    /// tensor depends on.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.container()? {
            Some(Node::Dict { ordered: true, .. }) => Ok(()),
            _ => Err(self.refused("a pickle that sets attributes of an object is refused".into())),
        }
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        let value = *self.top()?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(value) => {
                self.push(*value);
                Ok(())
            }
            None => Err(self.damaged("it recalls a value that it never stored")),
        }
    }

    fn proto(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(self.refused(format!("pickle protocol {other} is not one of 2 to 5"))),
        }
    }

    fn global(&mut self) -> Result<()> {
        let module = self.line()?;
        let name = self.line()?;
        self.resolve(module, name)
    }

    fn stack_global(&mut self) -> Result<()> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => self.resolve(module, name),
            _ => Err(self.damaged("a global's name is no text")),
        }
    }

    fn resolve(&mut self, module: &str, name: &str) -> Result<()> {
        match Global::find(module, name) {
            Some(global) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => Err(self.refused(format!("a pickle that calls `{module}.{name}` is refused"))),
        }
    }

    fn forbidden(&self, opcode: u8) -> Error {
        let name = match opcode {
            b'i' => " (INST)",
            b'o' => " (OBJ)",
            b'P' => " (PERSID)",
            0x81 => " (NEWOBJ)",
            0x92 => " (NEWOBJ_EX)",
            0x82..=0x84 => " (EXT)",
            0x8f..=0x91 => " (a set)",
            0x96..=0x98 => " (a buffer)",
            _ => "",
        };
        self.refused(format!("pickle opcode {opcode:#04x}{name} is refused"))
    }

    /// The error of a pickle that wants more than tensors.
    pub(super) fn refused(&self, problem: String) -> Error {
        self.error(&problem, DISTRUST)
    }

    /// The error of a pickle that makes no sense.
    pub(super) fn damaged(&self, problem: &str) -> Error {
        self.error(&format!("the pickle is damaged: {problem}"), FETCH)
    }

    fn error(&self, problem: &str, mend: &'static str) -> Error {
        Error::Pickle {
            file: self.file.to_owned(),
            offset: self.opcode_at,
            problem: one_line(problem),
            mend,
        }
    }
}
