//! Whether data of one schema can be read with another: the section "Schema Resolution" of the Avro specification 1.12,
//! decided as Avro for Java's `SchemaCompatibility` (1.9 and later) does, which is what Confluent's registry asks.
//!
//! Types may contain themselves, so this is a question about a graph. Its nodes are pairs of a reader's and a writer's type,
//! its edges go to the pairs that a pair depends on. All pairs that can be reached are found first; then those that cannot be
//! read are marked, and what depends on them, until nothing changes. What is not marked then can be read, however the types
//! refer to each other. Nothing here recurses, and the number of edges is bounded.
//!
//! Java remembers what it assumed of a pair while it was looking at it, even if that turns out wrong, and so can call readable
//! what is not. This does not follow it there.
use std::collections::{HashMap, HashSet};

use super::{
    Direction, Incompatibility, IncompatibilityKind,
    schema::{AvroSchema, AvroType, Field, Name, TypeId},
};

/// Only unions of thousands of branches against each other come to more.
const EDGES_MAX: usize = 1 << 20;
/// Nobody reads more.
const INCOMPATIBILITIES_MAX: usize = 1000;

/// Two schemas are too large to be compared.
#[derive(Debug, thiserror::Error)]
#[error("the schemas are too complex to be compared: more than {EDGES_MAX} pairs of their types would have to be")]
pub struct TooComplex;

/// What keeps data that `writer` wrote from being read with `reader`; nothing if it can be read. `against` and `direction` are
/// noted in what is found.
pub(super) fn incompatibilities(
    reader: &AvroSchema,
    writer: &AvroSchema,
    direction: Direction,
    against: usize,
) -> Result<Vec<Incompatibility>, TooComplex> {
    let mut graph = Graph { reader, writer, nodes: Vec::new(), index: HashMap::new(), edges: 0 };
    graph.node(reader.root(), writer.root());
    let mut next = 0;
    while next < graph.nodes.len() {
        graph.expand(next)?;
        next += 1;
    }
    let unreadable = graph.unreadable();
    Ok(graph.report(&unreadable, direction, against))
}

/// A step down in a schema.
#[derive(Debug, Clone, Copy)]
enum Step {
    Here,
    Items,
    Values,
    Branch(usize),
    Field(usize),
    FieldType(usize),
    Name,
    Size,
    Symbols,
}

impl Step {
    fn pointer(self) -> String {
        match self {
            Self::Here => String::new(),
            Self::Items => "/items".into(),
            Self::Values => "/values".into(),
            Self::Branch(index) => format!("/{index}"),
            Self::Field(index) => format!("/fields/{index}"),
            Self::FieldType(index) => format!("/fields/{index}/type"),
            Self::Name => "/name".into(),
            Self::Size => "/size".into(),
            Self::Symbols => "/symbols".into(),
        }
    }
}

/// What is wrong with a pair itself.
#[derive(Debug)]
enum Problem {
    Type,
    Name,
    Size,
    Symbols(Vec<String>),
    NoDefault(usize),
    /// The name of a reader's field and its aliases are several fields of the writer.
    Ambiguous(usize),
}

/// Which of the pairs that a pair depends on have to be readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    All,
    Any,
}

#[derive(Debug)]
struct Node {
    reader: TypeId,
    writer: TypeId,
    needs: Needs,
    problems: Vec<(Step, Problem)>,
    children: Vec<(Step, usize)>,
}

struct Graph<'s> {
    reader: &'s AvroSchema,
    writer: &'s AvroSchema,
    nodes: Vec<Node>,
    index: HashMap<(TypeId, TypeId), usize>,
    edges: usize,
}

impl<'s> Graph<'s> {
    fn node(&mut self, reader: TypeId, writer: TypeId) -> usize {
        let new = self.nodes.len();
        let node = *self.index.entry((reader, writer)).or_insert(new);
        if node == new {
            self.nodes.push(Node { reader, writer, needs: Needs::All, problems: Vec::new(), children: Vec::new() });
        }
        node
    }

    fn kinds(&self, node: usize) -> (&'s AvroType, &'s AvroType) {
        let node = &self.nodes[node];
        (self.reader.kind(node.reader), self.writer.kind(node.writer))
    }

    fn child(&mut self, node: usize, step: Step, reader: TypeId, writer: TypeId) -> Result<(), TooComplex> {
        self.edges += 1;
        if self.edges > EDGES_MAX {
            return Err(TooComplex);
        }
        let child = self.node(reader, writer);
        self.nodes[node].children.push((step, child));
        Ok(())
    }

    fn problem(&mut self, node: usize, step: Step, problem: Problem) {
        self.nodes[node].problems.push((step, problem));
    }

    /// Finds what is wrong with a pair itself, and the pairs that it depends on.
    fn expand(&mut self, node: usize) -> Result<(), TooComplex> {
        let (reader_id, writer_id) = (self.nodes[node].reader, self.nodes[node].writer);
        match self.kinds(node) {
            // Whatever branch was written has to be readable. First, so that of two unions it is the writer's that is taken apart.
            (_, AvroType::Union(branches)) => {
                for (index, branch) in branches.iter().enumerate() {
                    self.child(node, Step::Branch(index), reader_id, *branch)?;
                }
            }
            (AvroType::Union(branches), _) => {
                self.nodes[node].needs = Needs::Any;
                for branch in branches {
                    self.child(node, Step::Here, *branch, writer_id)?;
                }
            }
            (AvroType::Array(reader), AvroType::Array(writer)) => self.child(node, Step::Items, *reader, *writer)?,
            (AvroType::Map(reader), AvroType::Map(writer)) => self.child(node, Step::Values, *reader, *writer)?,
            (AvroType::Fixed { name, size }, AvroType::Fixed { name: written, size: written_size }) => {
                self.compare_names(node, name, written);
                if size != written_size {
                    self.problem(node, Step::Size, Problem::Size);
                }
            }
            (AvroType::Enum { name, symbols, default }, AvroType::Enum { name: written, symbols: written_symbols, .. }) => {
                self.compare_names(node, name, written);
                let known: HashSet<&String> = symbols.iter().collect();
                let missing: Vec<_> = written_symbols.iter().filter(|symbol| !known.contains(symbol)).cloned().collect();
                if !missing.is_empty() && default.is_none() {
                    self.problem(node, Step::Symbols, Problem::Symbols(missing));
                }
            }
            (AvroType::Record { name, fields, .. }, AvroType::Record { name: written, fields: written_fields, by_name }) => {
                self.compare_names(node, name, written);
                for (index, field) in fields.iter().enumerate() {
                    self.compare_field(node, index, field, written_fields, by_name)?;
                }
            }
            (reader, writer) if is_read_as(reader, writer) => {}
            _ => self.problem(node, Step::Here, Problem::Type),
        }
        Ok(())
    }

    /// The names without namespaces count, as the specification has it since 1.11; aliases are full names.
    fn compare_names(&mut self, node: usize, reader: &Name, writer: &Name) {
        if reader.simple() != writer.simple() && !reader.aliases.contains(&writer.full) {
            self.problem(node, Step::Name, Problem::Name);
        }
    }

    fn compare_field(
        &mut self,
        node: usize,
        index: usize,
        field: &Field,
        written: &[Field],
        by_name: &HashMap<String, usize>,
    ) -> Result<(), TooComplex> {
        let mut names = std::iter::once(&field.name).chain(field.aliases.iter().filter(|alias| **alias != field.name));
        let found = names.by_ref().find_map(|name| by_name.get(name));
        match found.and_then(|found| written.get(*found)) {
            Some(_) if names.any(|name| by_name.get(name).is_some_and(|other| Some(other) != found)) => {
                self.problem(node, Step::Field(index), Problem::Ambiguous(index));
            }
            Some(written) => self.child(node, Step::FieldType(index), field.kind, written.kind)?,
            None if field.has_default => {}
            None => self.problem(node, Step::Field(index), Problem::NoDefault(index)),
        }
        Ok(())
    }

    /// For every pair, whether it cannot be read.
    fn unreadable(&self) -> Vec<bool> {
        let mut parents = vec![Vec::new(); self.nodes.len()];
        for (parent, node) in self.nodes.iter().enumerate() {
            for &(_, child) in &node.children {
                parents[child].push(parent);
            }
        }
        // How many children of a pair that needs any may still be readable.
        let mut open: Vec<usize> = self.nodes.iter().map(|node| node.children.len()).collect();
        let begins = |node: &Node| !node.problems.is_empty() || (node.needs == Needs::Any && node.children.is_empty());
        let mut unreadable: Vec<bool> = self.nodes.iter().map(begins).collect();
        let mut queue: Vec<usize> = (0..self.nodes.len()).filter(|node| unreadable[*node]).collect();
        while let Some(node) = queue.pop() {
            for &parent in &parents[node] {
                open[parent] -= 1;
                if !unreadable[parent] && (self.nodes[parent].needs == Needs::All || open[parent] == 0) {
                    unreadable[parent] = true;
                    queue.push(parent);
                }
            }
        }
        unreadable
    }

    /// What is wrong, from the root on, each pair where it is met first.
    fn report(&self, unreadable: &[bool], direction: Direction, against: usize) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        // A place is a step from another one: whole paths are only made of places where something is wrong.
        let mut places: Vec<(usize, Step)> = vec![(0, Step::Here)];
        let mut seen = HashSet::new();
        let mut stack = vec![(0, 0)];
        while let Some((index, place)) = stack.pop() {
            if !unreadable[index] || !seen.insert(index) {
                continue;
            }
            let node = &self.nodes[index];
            let mut add = |kind, step: Step, message| {
                let path = pointer(&places, place) + &step.pointer();
                let path = if path.is_empty() { "/".to_owned() } else { path };
                found.push(Incompatibility { kind, path, message, direction, against });
            };
            for (step, problem) in &node.problems {
                let (kind, message) = self.explain(index, problem);
                add(kind, *step, message);
            }
            if node.needs == Needs::Any {
                let (_, writer) = self.kinds(index);
                let message = format!("no branch of the reader's union can read the writer's {}", describe(writer));
                add(IncompatibilityKind::MissingUnionBranch, Step::Here, message);
            }
            if found.len() >= INCOMPATIBILITIES_MAX {
                break;
            }
            for &(step, child) in node.children.iter().rev() {
                // Of a union, the branch that was meant says why it does not fit; the others have nothing to do with it.
                if node.needs == Needs::Any && !self.is_counterpart(child) {
                    continue;
                }
                places.push((place, step));
                stack.push((child, places.len() - 1));
            }
        }
        found
    }

    /// Whether the two types of a pair are one and the same type at different times.
    fn is_counterpart(&self, node: usize) -> bool {
        match self.kinds(node) {
            (AvroType::Array(_), AvroType::Array(_)) | (AvroType::Map(_), AvroType::Map(_)) => true,
            (AvroType::Record { name, .. }, AvroType::Record { name: written, .. })
            | (AvroType::Enum { name, .. }, AvroType::Enum { name: written, .. })
            | (AvroType::Fixed { name, .. }, AvroType::Fixed { name: written, .. }) => name.simple() == written.simple(),
            _ => false,
        }
    }

    fn explain(&self, node: usize, problem: &Problem) -> (IncompatibilityKind, String) {
        let (reader, writer) = self.kinds(node);
        let field = |index: &usize| match reader {
            AvroType::Record { fields, .. } => fields.get(*index).map_or("", |field| &field.name),
            _ => "",
        };
        match problem {
            Problem::Type => {
                let message = format!("what was written as {} cannot be read as {}", describe(writer), describe(reader));
                (IncompatibilityKind::TypeMismatch, message)
            }
            Problem::Name => {
                let message = format!(
                    "the reader's {} is the writer's {}, without an alias of that name",
                    describe(reader),
                    describe(writer)
                );
                (IncompatibilityKind::NameMismatch, message)
            }
            Problem::Size => {
                let size = |kind: &AvroType| if let AvroType::Fixed { size, .. } = kind { *size } else { 0 };
                let message =
                    format!("{} has {} bytes at the reader and {} at the writer", describe(reader), size(reader), size(writer));
                (IncompatibilityKind::FixedSizeMismatch, message)
            }
            Problem::Symbols(symbols) => {
                let message =
                    format!("the reader's {} lacks the symbols {} and has no default", describe(reader), symbols.join(", "));
                (IncompatibilityKind::MissingEnumSymbols, message)
            }
            Problem::NoDefault(index) => {
                let message = format!("field `{}` is not in the writer's {} and has no default", field(index), describe(writer));
                (IncompatibilityKind::ReaderFieldMissingDefaultValue, message)
            }
            Problem::Ambiguous(index) => {
                let message = format!("the name and the aliases of field `{}` are several fields of the writer", field(index));
                (IncompatibilityKind::NameMismatch, message)
            }
        }
    }
}

/// The same primitive type, or a promotion.
fn is_read_as(reader: &AvroType, writer: &AvroType) -> bool {
    use AvroType as T;
    matches!(
        (reader, writer),
        (T::Null, T::Null)
            | (T::Boolean, T::Boolean)
            | (T::Int, T::Int)
            | (T::Long, T::Int | T::Long)
            | (T::Float, T::Int | T::Long | T::Float)
            | (T::Double, T::Int | T::Long | T::Float | T::Double)
            | (T::Bytes | T::String, T::Bytes | T::String)
    )
}

fn pointer(places: &[(usize, Step)], mut place: usize) -> String {
    let mut steps = Vec::new();
    while place > 0 {
        let (parent, step) = places[place];
        steps.push(step.pointer());
        place = parent;
    }
    steps.reverse();
    steps.concat()
}

fn describe(kind: &AvroType) -> String {
    match kind {
        AvroType::Null => "null".into(),
        AvroType::Boolean => "boolean".into(),
        AvroType::Int => "int".into(),
        AvroType::Long => "long".into(),
        AvroType::Float => "float".into(),
        AvroType::Double => "double".into(),
        AvroType::Bytes => "bytes".into(),
        AvroType::String => "string".into(),
        AvroType::Array(_) => "array".into(),
        AvroType::Map(_) => "map".into(),
        AvroType::Union(_) => "union".into(),
        AvroType::Fixed { name, .. } => format!("fixed `{}`", name.full),
        AvroType::Enum { name, .. } => format!("enum `{}`", name.full),
        AvroType::Record { name, .. } => format!("record `{}`", name.full),
    }
}
