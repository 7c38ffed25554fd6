"""A network that loses, doubles, delays and reorders messages, and is cut in any shape."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad it is; probabilities per message, seconds."""

    loss: float = 0.01
    double: float = 0.01
    late: float = 0.03
    delay_s: tuple[float, float] = (0.0003, 0.008)
    late_s: float = 0.4


@dataclass(slots=True)
class Network:
    """Who hears whom. `cut` holds directed pairs, so a partition may be one-way."""

    dice: random.Random
    weather: Weather
    cut: set[tuple[str, str]] = field(default_factory=set)

    def deliver(self, sender: str, receiver: str, at: Callable[[float], None]) -> None:
        """Call `at(delay)` for each copy of a message that will arrive."""
        if (sender, receiver) in self.cut or self.dice.random() < self.weather.loss:
            return
        copies = 2 if self.dice.random() < self.weather.double else 1
        for _ in range(copies):
            delay = self.dice.uniform(*self.weather.delay_s)
            if self.dice.random() < self.weather.late:
                delay += self.dice.uniform(0, self.weather.late_s)
            at(delay)

    def partition(self, nodes: list[str]) -> None:
        """Cut the network in one of the shapes that hurt."""
        shape = self.dice.choice(("isolate", "halves", "one_way", "ring", "random"))
        pairs = [(a, b) for a in nodes for b in nodes if a != b]
        victim = self.dice.choice(nodes)
        match shape:
            case "isolate":
                self.cut = {(a, b) for a, b in pairs if victim in (a, b)}
            case "halves":
                side = set(self.dice.sample(nodes, self.dice.randint(1, len(nodes) - 1)))
                self.cut = {(a, b) for a, b in pairs if (a in side) != (b in side)}
            case "one_way":
                deaf = self.dice.random() < 0.5
                self.cut = {(a, b) for a, b in pairs if (b if deaf else a) == victim}
            case "ring":
                self.cut = {(a, b) for a, b in pairs if abs(nodes.index(a) - nodes.index(b)) > 1}
            case _:
                self.cut = {pair for pair in pairs if self.dice.random() < 0.4}

    def heal(self) -> None:
        self.cut = set()
