"""The report's section on alignment: its table by policy, and what it says in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rec.config import FINE_TUNED, Align
from rec.outcomes import HeldOut, Outcome, Share
from rec.report_grid import DASH, Grid, Line, minus

#: What `align.loss` is called; the keys are `rec.config.LOSSES`.
LOSSES = {
    "sigmoid": "DPO",
    "ipo": "IPO",
    "robust": "robust DPO",
    "hinge": "hinge loss on the margin",
    "apo_zero": "APO-zero",
    "sft": "fine-tuning on the chosen texts alone",
}


def training_name(policy: str) -> str:
    """How the report calls the training that a policy came out of."""
    return "Fine-tuning" if policy in FINE_TUNED else f"Round {policy}"


def setting(align: Align, fine_tuned: Sequence[str] = ()) -> str:
    """Which loss, to what the log-ratios are, and what the control is."""
    reference = "base LLM" if align.reference == "base" else "policy of the round before"
    control = (
        " Fine-tuning is the control: the base LLM trained on the chosen texts of round 1 alone, "
        "with the same settings; its loss is in nats per token of those texts, and it has no "
        "margin to make."
    )
    return (
        f"Loss: {align.loss} ({LOSSES[align.loss]}). The reference is the {reference}; an "
        f"implicit reward is beta ({align.beta:g}) times the log-ratio of a text to it."
        f"{control if fine_tuned else ''}"
    )


def displacement(outcomes: Mapping[str, Outcome]) -> str:
    """Whether likelihood displacement was seen, and what that means."""
    found = [training_name(policy) for policy, outcome in outcomes.items() if outcome.displaced]
    where = f"seen in {', '.join(found).lower()}"
    return (
        f"Likelihood displacement was {where if found else 'not seen'}: it is there when the "
        "chosen texts, and not only the rejected ones, became less likely than under the "
        "reference, so that probability went to texts of neither side. The margin may grow all the "
        "same."
    )


def alignment_grid(outcomes: Mapping[str, Outcome]) -> Grid:
    """What the training of each policy came to."""

    def line(name: str, note: str, cell: Callable[[Outcome], str]) -> Line:
        return Line(name, [cell(outcome) for outcome in outcomes.values()], note)

    def of_preference(name: str, note: str, cell: Callable[[Outcome], str]) -> Line:
        """A line about what fine-tuning on chosen texts does not aim at."""
        cells = [DASH if p in FINE_TUNED else cell(outcome) for p, outcome in outcomes.items()]
        return Line(name, cells, note)

    def held_out(name: str, note: str, share: Callable[[HeldOut], Share]) -> Line:
        return line(name, note, lambda o: DASH if o.held_out is None else judged(share(o.held_out)))

    return Grid(
        ["Alignment", *map(training_name, outcomes)],
        [
            line("Steps", "of the optimiser", lambda o: f"{o.steps:,}"),
            line("Loss", "", lambda o: f"{o.loss:.4f}"),
            of_preference("Reward accuracy", "share of pairs", lambda o: f"{o.accuracy:.3f}"),
            of_preference("Margin", "nats per pair, chosen − rejected", lambda o: signed(o.margin)),
            line("Log-ratio, chosen", "nats per token", lambda o: signed(o.chosen_log_ratio)),
            line("Log-ratio, rejected", "nats per token", lambda o: signed(o.rejected_log_ratio)),
            line("KL to the reference", "nats per token", lambda o: f"{o.kl:.3g}"),
            line(
                "Likelihood displacement",
                "both log-ratios below 0",
                lambda o: "seen" if o.displaced else "not seen",
            ),
            line(
                "Held-out pairs",
                "of validation users, never trained on",
                lambda o: f"{o.held_out.pairs if o.held_out else 0:,}",
            ),
            held_out(
                "Held-out likelihood accuracy, before",
                "share of pairs whose chosen text is the likelier one per token",
                lambda h: h.before,
            ),
            held_out("Held-out likelihood accuracy, after", "", lambda h: h.after),
            held_out(
                "Held-out reward accuracy",
                "share of pairs whose chosen text gained more",
                lambda h: h.reward,
            ),
        ],
    )


def judged(share: Share) -> str:
    """A share with its interval and where that lies: `.700 [.397, .892], above chance`."""
    value, low, high = (
        f"{number:.3f}".removeprefix("0") for number in (share.value, share.low, share.high)
    )
    return f"{value} [{low}, {high}], {share.verdict}"


def signed(value: float) -> str:
    """A number with its sign, to three digits."""
    return minus(f"{value + 0.0:+.3g}")
