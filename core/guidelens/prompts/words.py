"""Words that the parser of English prompts knows. Everything else may be a noun."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


COLOURS = word_set(
    "red orange yellow green blue purple violet pink brown black white gray grey beige tan gold golden silver cyan "
    "magenta teal turquoise maroon navy"
)
MATERIALS = word_set(
    "wooden wood metal metallic glass plastic leather paper stone brick ceramic rubber fluffy woolen cotton silk "
    "concrete marble steel iron bronze copper porcelain straw denim velvet"
)
ADJECTIVES = word_set(
    "large small big little huge tiny tall short long wide narrow thick thin giant mini fat slim round square oval "
    "rectangular circular cubic triangular conical spherical striped spotted plain shiny dark bright old new "
    "young modern antique vintage wet dry clean dirty empty full open closed broken happy sad angry calm cute pretty "
    "beautiful ugly strange fancy fresh ripe raw cooked hot cold frozen snowy sunny cloudy rainy grassy sandy rocky "
    "busy quiet crowded soft hard smooth rough sharp curly furry hairy bald adult female male wild "
    "single several many few various multiple different other same colorful colourful transparent adorable"
)

ALSO_NOUNS = word_set("square orange giant adult gold silver")
"""Adjectives and colours that are nouns at the end of a phrase."""

_RELATIONS = {
    "left of": ("to the left of", "on the left of", "on the left side of", "left of"),
    "right of": ("to the right of", "on the right of", "on the right side of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "underneath", "beneath", "under"),
    "on top of": ("on top of", "atop"),
    "in front of": ("in front of",),
    "behind": ("behind", "at the back of"),
    "next to": ("next to", "beside", "near", "by", "close to", "by the side of", "alongside"),
    "inside": ("inside of", "inside", "in the middle of", "within"),
    "between": ("between",),
    "on": ("on", "onto", "upon"),
    "in": ("in", "into"),
    "at": ("at",),
    "with": ("with",),
    "made of": ("made of", "made out of", "made from"),
    "of": ("of",),
    "through": ("through",),
    "across": ("across",),
    "against": ("against",),
    "around": ("around",),
    "from": ("from",),
    "for": ("for",),
    "to": ("to", "toward", "towards"),
    "along": ("along",),
}
RELATIONS: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    sorted(
        ((name, tuple(way.split())) for name, ways in _RELATIONS.items() for way in ways),
        key=lambda pair: -len(pair[1]),
    )
)
"""Relations as (name, the words for it), the longest first."""

LINKS = word_set(
    "has have holds hold rides ride eats eat wears wear carries carry sits stands lies lays walks flies runs plays "
    "holding riding wearing eating"
)
"""Verbs that relate the phrases before and after them."""
PARTICIPLES = word_set("parked placed filled covered topped surrounded seated attached")
"""Verb forms that are relations after a noun, and attributes before a noun."""
SKIPPED = word_set("and , is are that which who there")
"""Words between phrases that do not add a fact."""
STOPS = word_set(
    "it they them he she we you i this these those not no or but if as so than then when where while because can "
    "could will would may might must do does did was were be been being quoted-text nothing everything something what "
    "how why all both up down out off away back together very just only also too more most such one's it's"
)
"""Words that do not occur in noun phrases. A phrase with one of them is reported as not understood."""
