"""Known differences of transformers releases from the CLIP contract: when each holds, and what is asserted instead.

A deviation never skips a check. Under its *when* the check asserts *instead*; should the library keep the contract
after all, that assertion fails and the entry is stale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

__all__ = ["DEVIATIONS", "Deviation", "Deviations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One declared difference.

    Attributes:
        id: stable name.
        contract: what the documentation promises.
        instead: what these releases do, and the check asserts.
        releases: transformers releases it holds for.
        attention: attention implementations it holds for; empty for all.
    """

    id: str
    contract: str
    instead: str
    releases: SpecifierSet
    attention: tuple[str, ...] = ()

    def holds(self, release: Version, attention: str) -> bool:
        """Say whether the deviation is declared for this environment."""
        return self.releases.contains(release, prereleases=True) and (not self.attention or attention in self.attention)


_ONE_MAP_A_LAYER = "output_attentions=True returns one attention map a layer"

DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        id="nested-pooler-is-projected",
        contract="the pooler_output of CLIPModel's nested outputs is the tower's own pooled state",
        instead="it is the projected embedding before normalisation",
        releases=SpecifierSet(">=5.6.0"),
    ),
    Deviation(
        id="nested-states-missing",
        contract="CLIPModel(output_hidden_states=True, output_attentions=True) fills both in the nested outputs",
        instead="both are None in the nested outputs; the towers alone fill them",
        releases=SpecifierSet(">=5.0.0,<5.2.0"),
    ),
    Deviation(
        id="sdpa-attentions-are-none-entries",
        contract=_ONE_MAP_A_LAYER,
        instead="a tuple of None, one a layer",
        releases=SpecifierSet(">=4.57,<5"),
        attention=("sdpa",),
    ),
    Deviation(
        id="sdpa-attentions-are-none",
        contract=_ONE_MAP_A_LAYER,
        instead="None",
        releases=SpecifierSet(">=5.0.0,<5.2.0"),
        attention=("sdpa",),
    ),
    Deviation(
        id="sdpa-attentions-are-empty",
        contract=_ONE_MAP_A_LAYER,
        instead="an empty tuple",
        releases=SpecifierSet(">=5.2.0"),
        attention=("sdpa",),
    ),
    Deviation(
        id="transparent-images-on-white",
        contract="an image with transparency becomes RGB as in Pillow and the released CLIP code: alpha is dropped",
        instead="it is laid on a white ground first",
        releases=SpecifierSet(">=5.21.0"),
    ),
    Deviation(
        id="python-tokenizer-cleans-texts",
        contract="CLIPTokenizer gives the ids of the checkpoint's byte-level BPE",
        instead="texts are first repaired with ftfy where it is installed; else format characters are deleted and "
        "ideographs set apart with spaces",
        releases=SpecifierSet("<5"),
    ),
)

_BY_ID = {deviation.id: deviation for deviation in DEVIATIONS}


@dataclass(frozen=True, slots=True)
class Deviations:
    """The deviations of one environment, asked by one check; `record` notes each that was asserted."""

    release: Version
    record: Callable[[str], None]

    def hold(self, identity: str, *, attention: str = "") -> bool:
        """Say whether deviation `identity` is declared here, in which case the caller must assert what is done instead.

        Raises:
            KeyError: there is no deviation of that id.
        """
        holds = _BY_ID[identity].holds(self.release, attention)
        if holds:
            self.record(identity)
        return holds
