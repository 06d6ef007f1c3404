"""How interest fades: the learned half-lives, each user's pace, pairs with their events, and what the encoder sees."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow.dataset as ds
from markupsafe import Markup
from numpy.typing import NDArray

from halflife import chart
from halflife.answers import plot, show
from halflife.answers.attention import attention
from halflife.answers.explain import Explanation, check_events, curve_of, explain, seconds_of
from halflife.chart import BLUE, DASHES, SERIES, Chart
from halflife.decay import SECONDS_PER_DAY, Floats, decay
from halflife.errors import InputMissingError
from halflife.report import html
from halflife.report.examples import HABIT, Pair, Remembered
from halflife.report.facts import Facts

SHOWN_EVENTS: Final = 12  # of the attention, those with the most weight
STRETCH_BINS: Final = 24


def section(facts: Facts, remembered: Remembered) -> Markup:
    """Half-lives, example pairs and an example user's attention. Users are named by their index alone."""
    return html.section(
        "How interest fades",
        html.side_by_side(_channels(facts), _stretch(facts)),
        _examples(facts, remembered),
        source="models (half-lives, stretch); memory and events of the pairs; sequences of the user.",
    )


def _channels(facts: Facts) -> Markup:
    """What is left of a jump in each channel as days go by."""
    half_lives = facts.night.half_lives_days
    days = np.geomspace(1 / 24, 2 * max(half_lives[-1], 1.0), 120)
    x = chart.logarithmic("days after an event", float(days[0]), float(days[-1]))
    drawn = Chart("What is left of an event's jump", x, chart.linear("% that is left", 0, 100))
    left = decay(days, half_lives)
    for place, half_life in enumerate(half_lives):
        name = f"channel {place + 1}: {show.days(half_life)}"
        drawn.line(days, 100 * left[:, place], SERIES[place % len(SERIES)], DASHES[place % len(DASHES)], name)
    drawn.rule(y=50, dash="2 3")
    learned = "learned" if facts.night.model.kind == "neural" else "of the exponential law"
    return html.figure(
        drawn, f"Half-lives, {learned}: an event jumps into several channels, and each halves at its pace"
    )


def _stretch(facts: Facts) -> Markup:
    """How the users' own paces are spread."""
    stretch = facts.night.model.user_stretch
    if stretch is None:
        return html.paragraph("The model has no pace of each user's own (model.stretch is off): all fade alike.")
    edges = np.linspace(-1, 1, STRETCH_BINS + 1)
    shares = 100 * np.histogram(stretch, edges)[0] / max(len(stretch), 1)
    x = chart.linear("stretch: log2 of how much longer this user's events last", -1, 1)
    drawn = Chart("Stretch of the users", x, chart.linear("% of users", 0, 1.1 * float(shares.max())))
    drawn.bars(edges[:-1], edges[1:], shares, BLUE)
    return html.figure(drawn, f"Pace of {len(stretch):,} users: 0 is the common one")


def _examples(facts: Facts, remembered: Remembered) -> Markup:
    """Pairs of different kinds, and what the encoder sees of a user's events."""
    if not remembered.examples:
        return html.EMPTY
    try:
        check_events(facts.night)
    except InputMissingError as error:  # sessionized again since: neither would be what the scores are made of
        return html.heading("Examples") + html.paragraph(f"None: {error}.")
    drawn = [_pair(facts, kind, pair) for kind, pair in remembered.examples.items()]
    pairs = html.heading("Examples: the pairs with the most events of their kind") + html.side_by_side(*drawn)
    return pairs + _attention(facts, remembered)


def _pair(facts: Facts, kind: str, pair: Pair) -> Markup:
    """The events of a pair, what is left of them, and the decay ahead."""
    user_id, item_id = _ids(facts, pair)
    explained = explain(facts.night, user_id, item_id)
    words = f"User no. {pair.user} and {explained.title or explained.item_id} ({explained.item_id}): {kind}"
    revived = revivals(explained, facts)
    drawn = plot.draw(explained, curve_of(facts.night, user_id, item_id), words, revived)
    halves = "" if explained.halves_after_days is None else f", halved in {show.days(explained.halves_after_days)}"
    score = "not written" if explained.published is None else f"{explained.published:.4f}"
    return html.figure(drawn, f"{words}. {len(explained.events):,} events, score {score}{halves}")


def revivals(explained: Explanation, facts: Facts) -> NDArray[np.bool_]:
    """Which events found little left of the pair's interest after a long silence, by the rule of the memory (n,)."""
    rule = facts.night.written_as
    revived = np.zeros(len(explained.events), dtype=np.bool_)
    gaps = np.diff(seconds_of(explained.events), prepend=-np.inf) / SECONDS_PER_DAY
    memory: Floats = np.zeros(len(explained.half_lives_days))
    for place, jump in enumerate(np.maximum(explained.jumps, 0.0)):
        left = memory * decay(gaps[place], explained.half_lives_days)
        forgotten = left.sum() < rule.revival_retained_share * memory.sum()
        revived[place] = place > 0 and forgotten and gaps[place] >= rule.revival_silence_days
        memory = left + jump
    return revived


def _ids(facts: Facts, pair: Pair) -> tuple[str, str]:
    """The ids of a pair, to ask for it; the user's is not shown."""
    users = ds.dataset(facts.store.path("users", facts.as_of))
    user = users.to_table(columns=["user_id"], filter=ds.field("user_index") == pair.user)["user_id"][0].as_py()
    return user, str(facts.night.items.ids[facts.night.items.place[pair.item]])


def _attention(facts: Facts, remembered: Remembered) -> Markup:
    """The events that the encoder looks at most, for the user of the first example."""
    if HABIT not in remembered.examples:
        return html.EMPTY
    pair = remembered.examples[HABIT]
    weights = attention(facts.night, _ids(facts, pair)[0])
    if not len(weights):
        return html.EMPTY  # the law reads no sequence
    half_lives = facts.night.half_lives_days
    channels = list(range(len(half_lives)))
    heaviest = weights.loc[weights[channels].sum(axis=1).nlargest(SHOWN_EVENTS).index].sort_index()
    rows = [
        ((f"{row['time']:%Y-%m-%d}", row["title"] or row["item_id"]), [float(row[channel]) for channel in channels])
        for row in heaviest.to_dict("records")
    ]
    caption = (
        f"What the affinity of user no. {pair.user} looks back at: of the last {len(weights):,} events those with the "
        "most attention, and their share of it in each channel"
    )
    return html.heading("Attention") + html.heat_map(("event", "item", *map(show.days, half_lives)), rows, caption)
