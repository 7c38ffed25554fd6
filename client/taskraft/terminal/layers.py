"""A workflow as layers of groups: what depends on nothing is first, and what is alike is counted together.

Nothing here prints; `graph.py` draws what comes out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from taskraft import TaskInfo

RULES = {"any_succeeded": "any of them", "ended": "whatever they came to"}
FOLDED_LAYERS_MIN = 4  # a chain of fewer layers of one type is shown as it is


class Step(NamedTuple):
    """One task of a workflow. `parents` may name tasks outside of it: these have no place in the drawing.

    `rule` is empty if all parents must succeed, else a word or two about what is asked of them.
    """

    name: str
    type: str
    state: str
    parents: Sequence[str] = ()
    rule: str = ""

    @classmethod
    def of(cls, task: TaskInfo) -> Self:
        """A task that was read in full: its dependencies are there."""
        rules = sorted({RULES[one.condition] for one in task.dependencies if one.condition in RULES})
        parents = [one.id for one in task.dependencies]
        return cls(task.id, task.type, task.state, parents, " and ".join(rules))


@dataclass(slots=True)
class Group:
    """Tasks that are drawn as one. `kind` is their type where the title is not. Invariant: `parents` have smaller layers."""

    title: str
    layer: int
    kind: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    parents: set[int] = field(default_factory=set)
    rule: str = ""
    last_layer: int = 0

    @property
    def tasks(self) -> int:
        return self.counts.total()


def layers_of(steps: Sequence[Step]) -> list[int]:
    """The layer of each step, from 1: one more than the highest among its parents. Linear in steps and edges.

    The parents of all steps must be free of cycles, as those of every stored workflow are.
    """
    place = {step.name: i for i, step in enumerate(steps)}
    children: dict[int, list[int]] = defaultdict(list)
    missing = [0] * len(steps)
    for i, step in enumerate(steps):
        for parent in step.parents:
            if parent in place:
                children[place[parent]].append(i)
                missing[i] += 1
    layers = [1] * len(steps)
    ready = [i for i, count in enumerate(missing) if not count]
    seen = 0
    while ready:
        i = ready.pop()
        seen += 1
        for child in children[i]:
            layers[child] = max(layers[child], layers[i] + 1)
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    assert seen == len(steps), "a workflow with a cycle"
    return layers


def single_groups(steps: Sequence[Step]) -> list[Group]:
    """A group for each step, by layers."""
    return _groups(steps, [(step.name, step.name, step.type) for step in steps])


def alike_groups(steps: Sequence[Step]) -> list[Group]:
    """A group for the steps of each type in each layer."""
    return _groups(steps, [(step.type, step.type, "") for step in steps])


def _groups(steps: Sequence[Step], keys: Iterable[tuple[str, str, str]]) -> list[Group]:
    """One group for each (layer, first of the key); the rest of the key is its title and what is said of it."""
    layers = layers_of(steps)
    named = list(keys)
    order = sorted({(layer, key[0]) for layer, key in zip(layers, named, strict=True)})
    index = {key: i for i, key in enumerate(order)}
    groups = [Group(title="", layer=layer, last_layer=layer) for layer, _ in order]
    group_of: dict[str, int] = {}
    for step, layer, (key, title, kind) in zip(steps, layers, named, strict=True):
        group_of[step.name] = index[layer, key]
        group = groups[group_of[step.name]]
        group.title, group.kind = title, kind if kind != title else ""
        group.counts[step.state] += 1
        group.rule = group.rule or step.rule
    for step in steps:
        mine = group_of[step.name]
        groups[mine].parents |= {group_of[parent] for parent in step.parents if parent in group_of}
    return groups


def folded(groups: Sequence[Group]) -> list[Group]:
    """The same groups, where the inside of a long chain of one type becomes a single group over many layers."""
    children: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        for parent in group.parents:
            children[parent].append(i)

    def follows(i: int) -> bool:
        """Whether group i does nothing but carry on a chain: one parent, whose only child it is, of its own type."""
        if len(groups[i].parents) != 1:
            return False
        (parent,) = groups[i].parents
        return children[parent] == [i] and groups[parent].title == groups[i].title

    into: dict[int, int] = {}
    for i in range(len(groups)):
        if i in into:
            continue
        chain = [i]
        while len(children[chain[-1]]) == 1 and follows(children[chain[-1]][0]):
            chain.append(children[chain[-1]][0])
        into |= {one: one for one in chain}
        inside = chain[1:-1]
        if len(inside) >= FOLDED_LAYERS_MIN:
            into |= dict.fromkeys(inside, inside[0])
    return _merged(groups, sorted(set(into.values())), into)


def _merged(groups: Sequence[Group], kept: Sequence[int], into: Mapping[int, int]) -> list[Group]:
    place = {old: new for new, old in enumerate(kept)}
    merged = [Group(title=groups[old].title, layer=groups[old].layer, rule=groups[old].rule) for old in kept]
    for old, group in enumerate(groups):
        target = merged[place[into[old]]]
        target.counts += group.counts
        target.last_layer = max(target.last_layer, group.last_layer)
        target.parents |= {place[into[parent]] for parent in group.parents if into[parent] != into[old]}
    return merged
