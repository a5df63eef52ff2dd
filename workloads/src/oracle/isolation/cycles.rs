//! Cycles of the graph: where there are any, and a small one of each knot.
//!
//! Knots are the strongly connected components of more than one point (Tarjan, "Depth-first search and linear graph
//! algorithms", 1972), found without recursion in time linear in the edges. In a knot the shortest cycle is looked for
//! breadth first, from a bounded number of starts, so that a history that is wrong everywhere still takes bounded
//! time; the bound costs at most that a cycle shown is not the very shortest.

use std::collections::VecDeque;

use super::graph::{Edge, Graph, Kind, Point};

/// From so many starts a shortest cycle is looked for in one knot.
const STARTS_MAX: usize = 200;

const UNSEEN: u32 = u32::MAX;

/// Which edges take part.
pub(super) type Allowed = fn(Kind) -> bool;

/// Sets of points that reach each other over allowed edges, those of one point left out.
pub(super) fn knots(graph: &Graph, allowed: Allowed) -> Vec<Vec<Point>> {
    let mut search = Search {
        graph,
        allowed,
        count: 0,
        order: vec![UNSEEN; graph.len()],
        lowest: vec![UNSEEN; graph.len()],
        is_open: vec![false; graph.len()],
        open: Vec::new(),
        knots: Vec::new(),
    };
    for root in 0..graph.len() as Point {
        if search.order[root as usize] == UNSEEN {
            search.visit(root);
        }
    }
    search.knots
}

struct Search<'a> {
    graph: &'a Graph,
    allowed: Allowed,
    count: u32,
    order: Vec<u32>,
    lowest: Vec<u32>,
    is_open: Vec<bool>,
    open: Vec<Point>,
    knots: Vec<Vec<Point>>,
}

impl Search<'_> {
    fn enter(&mut self, point: Point) {
        self.order[point as usize] = self.count;
        self.lowest[point as usize] = self.count;
        self.count += 1;
        self.is_open[point as usize] = true;
        self.open.push(point);
    }

    fn visit(&mut self, root: Point) {
        let graph = self.graph;
        self.enter(root);
        let mut path: Vec<(Point, usize)> = vec![(root, 0)];
        while let Some((point, at)) = path.last_mut() {
            let from = *point as usize;
            if let Some(edge) = graph.leaving(*point).get(*at) {
                *at += 1;
                let to = edge.to as usize;
                if !(self.allowed)(edge.kind) {
                    continue;
                }
                if self.order[to] == UNSEEN {
                    self.enter(edge.to);
                    path.push((edge.to, 0));
                } else if self.is_open[to] {
                    self.lowest[from] = self.lowest[from].min(self.order[to]);
                }
                continue;
            }
            path.pop();
            if let Some((before, _)) = path.last() {
                let before = *before as usize;
                self.lowest[before] = self.lowest[before].min(self.lowest[from]);
            }
            if self.lowest[from] == self.order[from] {
                self.close(from as Point);
            }
        }
    }

    /// Everything that was opened after `point` reaches it, and is reached from it.
    fn close(&mut self, point: Point) {
        let start =
            self.open.iter().rposition(|open| *open == point).expect("a point is open until it is closed");
        let knot = self.open.split_off(start);
        for member in &knot {
            self.is_open[*member as usize] = false;
        }
        if knot.len() > 1 {
            self.knots.push(knot);
        }
    }
}

/// Looks for small cycles in one knot after another.
pub(super) struct Shortest<'a> {
    graph: &'a Graph,
    is_member: Vec<bool>,
    /// By point: the distance from the start, and the edge that was taken to get there.
    reached: Vec<(u32, Option<Edge>)>,
}

impl<'a> Shortest<'a> {
    /// For the knots of this graph.
    pub(super) fn new(graph: &'a Graph) -> Self {
        Self { graph, is_member: vec![false; graph.len()], reached: vec![(UNSEEN, None); graph.len()] }
    }

    /// A small cycle with exactly one anti-dependency, if there is one.
    pub(super) fn single(&mut self, knot: &[Point], allowed: Allowed) -> Option<Vec<Edge>> {
        let graph = self.graph;
        let starts = knot.iter().flat_map(|point| graph.leaving(*point));
        let starts = starts.filter(|edge| edge.kind.is_read_write()).copied().collect::<Vec<_>>();
        self.best(knot, spread(&starts), |search, edge| {
            let others = |kind: Kind| allowed(kind) && !kind.is_read_write();
            let mut cycle = search.path(edge.to, edge.from, others)?;
            cycle.insert(0, edge);
            Some(cycle)
        })
    }

    /// A small cycle.
    pub(super) fn any(&mut self, knot: &[Point], allowed: Allowed) -> Option<Vec<Edge>> {
        let starts = spread(knot);
        self.best(knot, starts, |search, start| search.path(start, start, allowed))
    }

    fn best<S>(
        &mut self,
        knot: &[Point],
        starts: impl Iterator<Item = S>,
        search: impl Fn(&mut Self, S) -> Option<Vec<Edge>>,
    ) -> Option<Vec<Edge>> {
        knot.iter().for_each(|point| self.is_member[*point as usize] = true);
        let mut best: Option<Vec<Edge>> = None;
        for start in starts {
            let found = search(self, start);
            knot.iter().for_each(|point| self.reached[*point as usize] = (UNSEEN, None));
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| self.weight(&found) < self.weight(best))
            {
                best = Some(found);
            }
        }
        knot.iter().for_each(|point| self.is_member[*point as usize] = false);
        best
    }

    fn weight(&self, cycle: &[Edge]) -> u32 {
        cycle.iter().map(|edge| self.cost(edge)).sum()
    }

    /// What is shown as a line of its own costs something.
    fn cost(&self, edge: &Edge) -> u32 {
        u32::from(edge.kind != Kind::Within && self.graph.owner(edge.to).is_some())
    }

    /// The cheapest way from one point to another inside the knot, at least one edge long.
    fn path(&mut self, from: Point, to: Point, allowed: impl Fn(Kind) -> bool) -> Option<Vec<Edge>> {
        let graph = self.graph;
        let mut queue = VecDeque::from([(0, from)]);
        let mut is_first = true;
        while let Some((distance, point)) = queue.pop_front() {
            if point == to && !is_first {
                return Some(self.way(from, to));
            }
            if !is_first && self.reached[point as usize].0 < distance {
                continue;
            }
            is_first = false;
            for edge in graph.leaving(point) {
                if !allowed(edge.kind) || !self.is_member[edge.to as usize] {
                    continue;
                }
                let cost = self.cost(edge);
                let (known, by) = &mut self.reached[edge.to as usize];
                let is_better = distance + cost < *known;
                // Of parallel edges the one that says most is shown.
                let is_plainer = by.is_some_and(|by| by.from == point && edge.kind < by.kind);
                if is_better || (is_plainer && distance + cost == *known) {
                    (*known, *by) = (distance + cost, Some(*edge));
                }
                match (is_better, cost) {
                    (true, 0) => queue.push_front((distance, edge.to)),
                    (true, _) => queue.push_back((distance + cost, edge.to)),
                    _ => {}
                }
            }
        }
        None
    }

    fn way(&self, from: Point, to: Point) -> Vec<Edge> {
        let mut way = Vec::new();
        let mut point = to;
        while let Some(edge) = self.reached[point as usize].1 {
            way.push(edge);
            point = edge.from;
            if point == from {
                break;
            }
        }
        way.reverse();
        way
    }
}

/// At most `STARTS_MAX` of them, from all over.
fn spread<T: Copy>(all: &[T]) -> impl Iterator<Item = T> {
    let step = all.len().div_ceil(STARTS_MAX).max(1);
    all.iter().step_by(step).copied()
}
