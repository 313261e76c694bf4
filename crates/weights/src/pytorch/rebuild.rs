//! The few calls that a dictionary of tensors makes, carried out as descriptions.

use super::pickle::Machine;
use super::value::{Global, MOST_SIDES, Node, Storage, Value, View};
use crate::error::{Error, Result};

impl<'a> Machine<'a> {
    /// What `callable(*arguments)` describes.
    pub(super) fn reduce(
        &mut self,
        callable: Value<'a>,
        arguments: Value<'a>,
    ) -> Result<Value<'a>> {
        let Value::Global(callable) = callable else {
            return Err(self.refused("a pickle that calls an object is refused".into()));
        };
        match callable {
            Global::OrderedDict => self.ordered_dict(arguments),
            Global::Tensor => self.tensor(arguments),
            Global::Parameter => {
                // data, requires_grad, backward hooks
                match self.items(arguments) {
                    Some(&[data, _, _]) if self.is_tensor(data) => Ok(data),
                    _ => Err(self.wrong("torch._utils._rebuild_parameter")),
                }
            }
            Global::ParameterWithState => {
                // data, requires_grad, backward hooks, attributes
                match self.items(arguments) {
                    Some(&[data, _, _, _]) if self.is_tensor(data) => Ok(data),
                    _ => Err(self.wrong("torch._utils._rebuild_parameter_with_state")),
                }
            }
            Global::OfType => self.of_type(arguments),
            Global::Beside => Ok(Value::Other),
            Global::Size => match self.items(arguments) {
                Some(&[sides]) if self.items(sides).is_some() => Ok(sides),
                _ => Err(self.wrong("torch.Size")),
            },
            Global::Storage(_) | Global::Dtype | Global::Class => Err(self.refused(
                "a pickle that calls the type of a storage, a number or a tensor is refused".into(),
            )),
        }
    }

    /// `_rebuild_from_type_v2(rebuild, class, arguments, attributes)`: what `rebuild(*arguments)`
    /// describes, where that is a tensor; the attributes are dropped.
    fn of_type(&mut self, arguments: Value<'a>) -> Result<Value<'a>> {
        let made = match self.items(arguments) {
            Some(
                &[
                    Value::Global(
                        rebuild @ (Global::Tensor | Global::Parameter | Global::ParameterWithState),
                    ),
                    Value::Global(Global::Class),
                    inner,
                    _,
                ],
            ) => Some((rebuild, inner)),
            _ => None,
        };
        match made {
            Some((rebuild, inner)) => self.reduce(Value::Global(rebuild), inner),
            None => Err(self.wrong("torch._tensor._rebuild_from_type_v2")),
        }
    }

    /// Without arguments, or from a list of pairs as Python 2 writes it.
    fn ordered_dict(&mut self, arguments: Value<'a>) -> Result<Value<'a>> {
        let pairs = match self.items(arguments) {
            Some(&[]) => Some(&[][..]),
            Some(&[pairs]) => self.items(pairs),
            _ => None,
        };
        let items = pairs.and_then(|pairs| {
            let pair = |pair: &Value<'a>| match self.items(*pair)? {
                &[key, value] => Some((key, value)),
                _ => None,
            };
            pairs.iter().map(pair).collect::<Option<Vec<_>>>()
        });
        let items = items.ok_or_else(|| self.wrong("collections.OrderedDict"))?;
        // The only copy whose size is not that of the opcode's own input.
        self.charge(items.len())?;
        Ok(self.node(Node::Dict {
            items,
            ordered: true,
        }))
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`
    fn tensor(&mut self, arguments: Value<'a>) -> Result<Value<'a>> {
        let view = match self.items(arguments) {
            Some(&[storage, offset, shape, strides, _, _])
            | Some(&[storage, offset, shape, strides, _, _, _]) => {
                self.view(storage, offset, shape, strides)
            }
            _ => None,
        };
        match view {
            Some(view) => Ok(self.node(Node::Tensor(Box::new(view)))),
            None => Err(self.wrong("torch._utils._rebuild_tensor_v2")),
        }
    }

    fn view(
        &self,
        storage: Value<'a>,
        offset: Value<'a>,
        shape: Value<'a>,
        strides: Value<'a>,
    ) -> Option<View<'a>> {
        let Value::Node(at) = storage else {
            return None;
        };
        let Some(Node::Storage(storage)) = self.nodes.get(at) else {
            return None;
        };
        let view = View {
            storage: *storage,
            offset: whole(offset)?,
            shape: self.sides(shape)?,
            strides: self.sides(strides)?,
        };
        (view.shape.len() == view.strides.len()).then_some(view)
    }

    /// A tuple of few numbers, none negative.
    fn sides(&self, value: Value<'a>) -> Option<Vec<usize>> {
        let items = self.items(value)?;
        (items.len() <= MOST_SIDES)
            .then(|| items.iter().map(|item| whole(*item)).collect())
            .flatten()
    }

    /// The storage behind a persistent id:
    /// `('storage', type, key, location, count[, view])`.
    pub(super) fn persistent(&self, id: Value<'a>) -> Result<Storage<'a>> {
        let (kind, key, count) = match self.items(id) {
            Some(
                &[
                    Value::Text("storage"),
                    kind,
                    Value::Text(key),
                    Value::Text(_),
                    count,
                ],
            )
            | Some(
                &[
                    Value::Text("storage"),
                    kind,
                    Value::Text(key),
                    Value::Text(_),
                    count,
                    Value::None,
                ],
            ) => (kind, key, count),
            _ => return Err(self.damaged("a persistent id names no storage")),
        };
        match (kind, whole(count)) {
            (Value::Global(Global::Storage(dtype)), Some(count)) => {
                Ok(Storage { key, dtype, count })
            }
            _ => Err(self.damaged("a storage has no type or no size")),
        }
    }

    /// The items of a tuple or a list.
    fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        let Value::Node(at) = value else { return None };
        match self.nodes.get(at)? {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    fn is_tensor(&self, value: Value<'a>) -> bool {
        matches!(value, Value::Node(at) if matches!(self.nodes.get(at), Some(Node::Tensor(_))))
    }

    fn wrong(&self, callable: &str) -> Error {
        self.damaged(&format!(
            "`{callable}` is called with other arguments than it takes"
        ))
    }
}

fn whole(value: Value<'_>) -> Option<usize> {
    match value {
        Value::Int(value) => usize::try_from(value).ok(),
        _ => None,
    }
}
