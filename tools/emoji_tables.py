"""What the emoji set is made of, as tables: packages, artists and the 20 classes."""

from __future__ import annotations

from dataclasses import dataclass

EMOJI_DATA = ("emojibase-data", "17.0.0")


@dataclass(frozen=True)
class ArtSet:
    """One set of drawings. name: package suffix and artist column. hand: who drew it (sets of one hand share a split).

    licence: SPDX id that the pictures carry here. split: side of the split by artist.
    """

    name: str
    version: str
    hand: str
    licence: str
    split: str

    @property
    def package(self) -> str:
        """The npm package that holds the set."""
        return f"@iconify-json/{self.name}"


# Order matters: of two pictures with the same pixels the earlier set's stays, so that test and validation stay whole.
# fxemoji: its package says Apache-2.0, its own repository gives Apache-2.0 to the code and CC-BY-4.0 to the drawings; the
# drawings' licence, the one that asks for more, is the one recorded.
ART_SETS = (
    ArtSet("twemoji", "1.2.5", "Twitter", "CC-BY-4.0", "test"),
    ArtSet("fxemoji", "1.2.2", "Mozilla", "CC-BY-4.0", "validation"),
    ArtSet("noto", "1.2.9", "Google", "Apache-2.0", "train"),
    ArtSet("fluent-emoji", "1.2.7", "Microsoft", "MIT", "train"),
    ArtSet("emojione", "1.2.3", "Emoji One", "CC-BY-4.0", "train"),
    ArtSet("fluent-emoji-flat", "1.2.6", "Microsoft", "MIT", "train"),
    ArtSet("noto-v1", "1.2.5", "Google", "Apache-2.0", "train"),
)

CLASSES = (
    "bird", "building", "clothing", "dessert", "drink", "face", "flag", "fruit", "hand", "insect", "mammal", "meal",
    "person", "plant", "sea animal", "sport", "tool", "vegetable", "vehicle", "weather",
)  # fmt: skip

_CLASS_OF_SUBGROUP = {
    **dict.fromkeys(
        [
            "person",
            "person-gesture",
            "person-role",
            "person-fantasy",
            "person-activity",
            "person-sport",
            "person-resting",
        ],
        "person",
    ),
    "family": "person",
    **dict.fromkeys(["country-flag", "subdivision-flag", "flag"], "flag"),
    # A grinning cat and the plain 'cat face' are one drawing with another mouth, so animal heads are mammals, never faces.
    **dict.fromkeys(["animal-mammal", "cat-face", "monkey-face"], "mammal"),
    **dict.fromkeys(["transport-ground", "transport-water", "transport-air"], "vehicle"),
    **dict.fromkeys(["food-prepared", "food-asian"], "meal"),
    **dict.fromkeys(["plant-flower", "plant-other"], "plant"),
    **dict.fromkeys(["place-building", "place-religious"], "building"),
    "clothing": "clothing",
    "sky-weather": "weather",
    "sport": "sport",
    "tool": "tool",
    "food-fruit": "fruit",
    "animal-bird": "bird",
    "drink": "drink",
    "food-vegetable": "vegetable",
    "food-sweet": "dessert",
    "animal-marine": "sea animal",
    "animal-bug": "insect",
}

# In one of those subgroups, but not a picture of the class.
_NO_CLASS = frozenset(
    """
    troll|hairy creature
    pile of poo|ghost|alien monster|skull|skull and crossbones|dotted line face|face in clouds
    paw prints|pig nose|feather|wing|snail|worm|spider web|microbe|spiral shell
    station|manual wheelchair|motorized wheelchair|skateboard|roller skate|bus stop|motorway|railway track|oil drum
    fuel pump|wheel|police car light|horizontal traffic light|vertical traffic light|stop sign|construction|anchor
    ring buoy|parachute|seat|satellite
    butter|salt|egg
    rosette|empty nest|nest with eggs|mushroom
    brick|rock|wood|building construction|Statue of Liberty
    folding hand fan|shopping bags|hair pick|prayer beads|lipstick|ring|gem stone
    thermometer|fire|droplet|water wave|ringed planet|milky way|closed umbrella|umbrella on ground
    martial arts uniform|running shirt|diving mask
    bomb|boomerang|shield|balance scale|white cane|link|broken chain|chains|hook|magnet
    ice|nail polish|selfie
    """.strip()
    .replace("\n", "|")
    .split("|")
)
_EXTRA_CLASS = {"scissors": "tool", "kitchen knife": "tool"}

_DROPPED_NAMES = {name.strip() for name in _NO_CLASS}


def class_of(name: str, subgroup: str) -> str | None:
    """The class of an emoji by its name and subgroup, None when it shows none of the 20."""
    if name in _EXTRA_CLASS:
        return _EXTRA_CLASS[name]
    if name in _DROPPED_NAMES:
        return None
    if subgroup.startswith("face-"):
        return "face"
    if subgroup.startswith("hand"):
        return "hand"
    return _CLASS_OF_SUBGROUP.get(subgroup)


# The default class task takes at most as many pictures of these as the next largest class has.
CAPPED = ("person", "face", "flag")
