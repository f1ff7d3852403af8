"""Our own list of words that sound alike, or nearly alike, and are spelled differently.

The list covers everyday English words, and all colours, sizes, numbers and relations of the shapes world. Some words
have an exact homophone (``red``/``read``, ``two``/``too``). The others are paired with a word that differs in one sound
or in stress (``square``/``scare``, ``desert``/``dessert``). The list is not a pronouncing dictionary. Pairs that are
homophones only in some accents count as near homophones, or are left out.
"""

from __future__ import annotations

from functools import cache

_EXACT = """
red read | blue blew | gray grey | white wight | two too to | one won | four for fore | eight ate
right write rite wright | made maid | male mail | tail tale | sail sale | pail pale | plain plane
main mane | pain pane | rain reign rein | vain vein vane | pear pair pare | bear bare | hair hare
fair fare | stair stare | their there | wear where ware | flour flower | hour our | sun son | sea see
bee be | flea flee | tea tee | meat meet | peace piece | beach beech | leek leak | week weak | steel steal
wheel weal | heel heal | deer dear | beer bier | pier peer | knight night | site sight cite | bite byte
tide tied | die dye | eye aye | high hi | pie pi | buy by bye | toe tow | road rode rowed | rose rows
nose knows | no know | sole soul | role roll | bowl boll | pole poll | hole whole | board bored
horse hoarse | course coarse | source sauce | oar ore | boar bore | sword soared | ball bawl | hall haul
mall maul | wall waul | cord chord | root route | moose mousse | through threw | new knew | dew due
cue queue | flu flew | shoe shoo | bread bred | lead led | cent scent sent | cell sell | berry bury
cereal serial | ring wring | wrap rap | knot not | knit nit | lam lamb | jam jamb | plum plumb | sum some
bough bow | fowl foul | towel towle | bald balled | band banned | brake break | steak stake | great grate
waste waist | wait weight | way weigh | sleigh slay | tray trey | prey pray | mussel muscle | cellar seller
colonel kernel | symbol cymbal | idol idle | bridal bridle | medal meddle | metal mettle | pedal peddle
principal principle | stationary stationery | bolder boulder | hangar hanger | altar alter | choir quire
castor caster | guest guessed | missed mist | passed past | packed pact | tacks tax | links lynx | socks sox
claws clause | paws pause | daze days | prays praise | toad towed | mode mowed | bard barred | bored board
mustard mustered | in inn | wood would | sew so sow | dough doe | flow floe | grown groan | thrown throne
loan lone | hymn him | key quay | creak creek | peak peek | reed read | heard herd | bird burred | fur fir
turn tern | earn urn | pearl purl | whirl whorl
"""

_NEAR = """
desert dessert | black block | purple purpose | yellow mellow | orange arrange | green grin | pink ping
cyan sign | circle sickle | square scare | triangle tangle | cross crows | small smell | large lodge
above about | below bellow | three free | left lift | big pig | tiny tinny | little brittle | huge hue
circles sickles | squares scares | crosses crocuses | dog dock | cat cap | cup cub | car core | bus buzz
boat bought | train drain | clock crock | chair share | table stable | lamp lamb | book brook
bottle battle | apple ample | banana bandana | pizza piazza | cake kick | fish fizz | sheep ship | cow cowl
horse house | man men | woman women | boy buoy | girl curl | child chilled | hat had | shirt short
tie tight | angel angle | dairy diary | quiet quite | loose lose | accept except | affect effect
advice advise | breath breathe | cloths clothes | costume custom | picture pitcher | statue statute
conscience conscious | human humane | moral morale | personal personnel | trial trail | casual causal
form from | bed bad | pen pan | pin pen | sit seat | full fool | light right | glass grass | play pray
river liver | vest west | wine vine | thick tick | thin tin | mouth mouse
"""


def _groups(text: str) -> list[list[str]]:
    return [group.split() for line in text.strip().splitlines() for group in line.split("|") if group.strip()]


@cache
def homophones(*, near: bool = True) -> dict[str, tuple[str, ...]]:
    """Return the words that sound like each word, in lower case.

    :param near: include words that sound nearly alike.
    """
    found: dict[str, dict[str, None]] = {}
    for group in _groups(_EXACT) + (_groups(_NEAR) if near else []):
        for word in group:
            found.setdefault(word, {}).update((other, None) for other in group if other != word)
    return {word: tuple(others) for word, others in found.items()}
