"""Methods and caveats: what was left out, how examples were split, with what, after whom."""

from __future__ import annotations

import pandas as pd

from goaldriven.report import tables
from goaldriven.report.blocks import Block, Download, Items, Paragraph, Section, Table
from goaldriven.report.identified import Results
from goaldriven.report.names import group_label, listing, plural, statistic_label
from goaldriven.report.sections.overview import versions
from goaldriven.report.study import StudyData
from goaldriven.specs import PUBLISHED_STATISTICS, STATISTICS
from goaldriven.trajectories.published import is_imported

_SPLITS = (
    "Examples are layers. The layers of one network share its seeds, data order and fate, so they "
    "are not independent. Splits by network keep all layers of a network on one side; they say how "
    "well the rule of a new network is identified, and are the headline here. They and all "
    "intervals speak of new networks from the same starts (initial weights), architectures and "
    "tasks as these. Splits by layer, as published, let a classifier be tested on layers whose "
    "neighbours it was trained on; what they add is what layers of one network share, not only "
    "what a rule leaves. Splits overlap, so that their scatter alone would understate the "
    "uncertainty: with standard deviation s over n splits, s.e.m. = s·√(1/n + tested/trained on) "
    "(Nadeau and Bengio 2003)."
)
_FITTING = (
    "Features are the whole trajectories of the statistics and the layer's position (early, middle "
    "or deep). Scaling, principal components and hyperparameters are fitted inside the training "
    "part of each split (five-fold cross-validation). The best classifier is picked by its test "
    "accuracy among those shown, which favours it slightly."
)
_CITATIONS = (
    "The virtual experiment, its statistics and classifiers: A. Nayebi, S. Srivastava, S. Ganguli, "
    "D. L. K. Yamins (2020). Identifying learning rules from neural network observables. NeurIPS.",
    "Information alignment: D. Kunin, A. Nayebi, J. Sagastuy-Brena, S. Ganguli, J. Bloom, "
    "D. L. K. Yamins (2020). Two routes to scalable credit assignment without weight symmetry. "
    "ICML.",
    "Feedback alignment: T. P. Lillicrap, D. Cownden, D. B. Tweed, C. J. Akerman (2016). Random "
    "synaptic feedback weights support error backpropagation for deep learning. Nature "
    "Communications 7.",
    "Colours: M. Okabe, K. Ito (2008). Color universal design; P. Tol (2021). Colour schemes.",
)


def methods(data: StudyData, results: Results | None) -> Section:
    """What a reader must know to trust, or mistrust, the numbers above."""
    blocks: list[Block] = [*_statistics(data, results), Paragraph(_outcomes(data))]
    if results is not None:
        blocks += [Paragraph(_SPLITS), Paragraph(_FITTING), Paragraph(_how_many(results))]
    blocks += [Paragraph(text) for text in _measured(data)]
    if found := versions(data):
        blocks.append(Paragraph(f"Versions: {found}."))
    blocks.append(Items(_CITATIONS))
    return Section("methods", "Methods and caveats", tuple(blocks))


def _statistics(data: StudyData, results: Results | None) -> list[Block]:
    table = tables.not_finite(data.networks)
    if table.empty:
        return []
    out = table[table["networks"] > 0]
    admissible = table[table["networks"] == 0]
    n = len(data.trained)
    text = (
        f"Of the {len(table)} statistics, {len(admissible)} are finite for every layer of every "
        f"trained network at every record, and so admissible."
        f" {_against_published(set(admissible['statistic']))}"
    )
    blocks: list[Block] = [Paragraph(text), _admissible_table(list(admissible["statistic"]))]
    if results is not None and set(results.statistics) != set(admissible["statistic"]):
        blocks.append(
            Paragraph(
                f"The classifiers were given {plural(len(results.statistics), 'statistic')}: "
                f"{_names(list(results.statistics))}."
            )
        )
    if len(out):
        rows = tuple(
            (statistic_label(r["statistic"]), f"{r['networks']} of {n}", str(r["layers"]))
            for r in out.to_dict("records")
        )
        caption = f"Statistics left out, with the reason: not finite at some record.{_why(out)}"
        header = ("statistic", "not finite in networks", "in layers")
        download = Download("statistics_not_finite.csv", table)
        blocks.append(Table(caption, header, rows, (download,)))
    return blocks


def _why(out: pd.DataFrame) -> str:
    summaries = {STATISTICS[s].summary for s in out["statistic"] if s in STATISTICS}
    if not summaries & {"skew", "kurtosis"}:
        return ""
    return " Skew and kurtosis have no value where all units are equal, as in a silent layer."


def _admissible_table(names: list[str]) -> Table:
    """Admissible statistics, a row per measure and function."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if name in STATISTICS:
            s = STATISTICS[name]
            summary = {"var": "variance"}.get(s.summary, s.summary.replace("_", " "))
            rows.setdefault((group_label(s.measure), s.function), []).append(summary)
    return Table(
        "Admissible statistics: the summary over units of the raw, absolute (abs) or squared (sq) "
        "values of a measure.",
        ("measure", "function", "summaries"),
        tuple((*key, ", ".join(summaries)) for key, summaries in rows.items()),
        text_columns=3,
    )


def _names(statistics: list[str]) -> str:
    return listing([statistic_label(s) for s in statistics]) if statistics else "none"


def _against_published(admissible: set[str]) -> str:
    missing = [s for s in PUBLISHED_STATISTICS if s not in admissible]
    if not missing:
        return f"All {len(PUBLISHED_STATISTICS)} of the published study are among them."
    return (
        f"Of the {len(PUBLISHED_STATISTICS)} of the published study, "
        f"{_names(missing)} {'is' if len(missing) == 1 else 'are'} not among them."
    )


def _measured(data: StudyData) -> list[str]:
    """How the observables came about, of networks trained here and of imported ones."""
    imported = [n for n in data.networks if is_imported(n)]
    texts = []
    if not data.networks or len(imported) < len(data.networks):
        which = " of the networks that were not imported" if imported else ""
        texts.append(
            f"Statistics and metrics{which} are computed over the whole validation set in "
            "evaluation mode, without augmentation; the layer-wise activity change is the "
            "derivative through the forward weights for every rule."
        )
    if imported:
        texts.append(
            f"The observables of {plural(len(imported), 'imported network')} are as their source "
            "has them. The published code takes the layer-wise activity change through the "
            "backward weights, and the norm of a weight tensor as the mean over slices."
        )
    return texts


def _outcomes(data: StudyData) -> str:
    counts = data.counts()
    if data.networks and all(map(is_imported, data.networks)):
        return "The published format does not tell outcomes: imported networks count as trained."
    if not counts["diverged"] + counts["failed"]:
        return "No network diverged or failed."
    whole = "collection" if data.study is None else "grid"
    parts = [
        plural(counts[state], f"{state} network")
        for state in ("diverged", "failed")
        if counts[state]
    ]
    return (
        f"{listing(parts)} of {sum(counts.values())} in the {whole} "
        f"{'is' if sum((counts['diverged'], counts['failed'])) == 1 else 'are'} in no trajectory, "
        "curve or classifier: what is said of a rule holds for those of its networks that trained."
    ).capitalize()


def _how_many(results: Results) -> str:
    """What the classifiers were given and chose from."""
    settings = results.settings
    groups = [group_label(g) for g in dict.fromkeys(results.accuracy["observables"])]
    kinds = [str(k) for k in dict.fromkeys(results.accuracy["split_kind"])]
    views = sorted(set(settings["views"].values()))
    features = {
        "published": "the values of the statistics, as published",
        "dynamics": "the values of the statistics, their change since the initial network and "
        "their change since the last record",
    }
    packages = ("scikit-learn", "torch", "numpy")
    used = ", ".join(
        f"{p} {settings['versions'][p]}" for p in packages if p in settings["versions"]
    )
    return (
        f"{plural(int(results.accuracy['splits'].max()), 'category-balanced 75/25 split')} each by "
        f"{listing(kinds)}, seed {settings['seed']}, "
        f"of {len(settings['examples']['layer'])} layers of "
        f"{plural(len(results.network_ids), 'network')}; hyperparameters from the "
        f"{settings['grid']} grids; features: {listing([features.get(v, v) for v in views])}; "
        f"observables: {listing(groups)}. Classifiers by {used}."
    )
