# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What people type: bare nouns, no article, other orders, plurals, capitals, a final stop, other words for a thing.

The sentences of `grammar` can be read back exactly; these cannot, and are not meant to be. Each is true of its scene.
Some synonyms are kept out of every training text, so that it can be judged what the text encoder knows by itself.

Synonyms are from WordNet 3.0 (Debian's wordnet-base: the words of a synset and the closest narrower ones) and from the
English keywords of the same emoji in Unicode CLDR 48.2.
"""

from dataclasses import dataclass

from .grammar import position_words
from .scenes import KeyedDraws, Scene, SceneObject

_FREE_STREAM = 2  # of the keyed draws; streams 0 and 1 choose the scene and its captions


@dataclass(frozen=True)
class Synonyms:
    """Other words for a category or a colour.

    Args:
        trained (`tuple[str, ...]`): May stand in training texts.
        held_out (`tuple[str, ...]`): Stand in none; they are judged on.
    """

    trained: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()


CATEGORY_SYNONYMS = {
    "bus": Synonyms(("coach", "motorbus"), ("omnibus", "motorcoach")),
    "tree": Synonyms(("oak",), ("maple",)),
    "fish": Synonyms(("carp",), ("trout",)),
    "umbrella": Synonyms(("parasol",), ("brolly",)),
    "car": Synonyms(("automobile", "auto"), ("motorcar", "sedan")),
    "mushroom": Synonyms(("toadstool",), ("fungus",)),
    "shirt": Synonyms(("t-shirt", "tee"), ("jersey", "blouse")),
    "key": Synonyms(("passkey",), ("latchkey",)),
    "butterfly": Synonyms(("moth",), ()),
    "crown": Synonyms(("diadem",), ("tiara", "coronet")),
    "cactus": Synonyms(("succulent",), ("saguaro",)),
    "elephant": Synonyms(("pachyderm",), ("mammoth",)),
    "turtle": Synonyms(("tortoise",), ("terrapin",)),
    "teapot": Synonyms(("kettle",), ()),
    "chair": Synonyms(("seat",), ("armchair", "stool")),
    "boot": Synonyms(("shoe",), ("footwear", "galosh")),
    "flower": Synonyms(("blossom", "tulip"), ("bloom",)),
    "bell": Synonyms(("chime",), ()),
    "cat": Synonyms(("kitty", "feline"), ("kitten", "tomcat")),
    "bird": Synonyms(("birdie",), ("songbird", "sparrow")),
    "house": Synonyms(("home", "cottage"), ("dwelling", "bungalow")),
    "guitar": Synonyms((), ("ukulele",)),
    "dress": Synonyms(("gown",), ("frock",)),
    "crab": Synonyms(("crustacean",), ()),
    "truck": Synonyms(("lorry",), ("pickup",)),
    "dolphin": Synonyms(("porpoise",), ()),
    "dinosaur": Synonyms(("dino", "sauropod"), ("brontosaurus", "diplodocus")),
    "rabbit": Synonyms(("bunny",), ("hare",)),
    "cap": Synonyms(("hat", "baseball cap"), ("headgear",)),
    "bag": Synonyms(("handbag", "purse"), ("satchel", "tote")),
    "snake": Synonyms(("serpent",), ("viper", "python")),
    "horse": Synonyms(("pony", "stallion"), ("mare", "steed")),
    "bucket": Synonyms(("pail",), ()),
    "book": Synonyms(("volume",), ("textbook", "novel")),
    "scooter": Synonyms(("moped",), ("motor scooter",)),
    "trophy": Synonyms(("winner's cup", "prize"), ("award",)),
    "telephone": Synonyms(("phone",), ("handset",)),
    "dog": Synonyms(("hound", "doggy"), ("puppy", "pooch")),
    "seal": Synonyms(("sea lion",), ("walrus",)),
    "squid": Synonyms(("calamari",), ()),
    "bicycle": Synonyms(("bike",), ("cycle",)),
    "helicopter": Synonyms(("chopper",), ("whirlybird",)),
    "hammer": Synonyms(("mallet",), ()),
    "pig": Synonyms(("hog", "piglet"), ("swine", "sow")),
    "camel": Synonyms(("dromedary",), ()),
    "duck": Synonyms(("mallard",), ("duckling",)),
    "tent": Synonyms(("camping tent",), ("tepee",)),
    "rocket": Synonyms(("spaceship",), ("spacecraft",)),
    "cupcake": Synonyms(("muffin",), ()),
    "trumpet": Synonyms(("horn",), ("bugle",)),
    "train": Synonyms(("locomotive",), ("steam engine",)),
    "ladybug": Synonyms(("ladybird",), ()),
}

COLOUR_SYNONYMS = {
    "red": Synonyms(("crimson", "scarlet"), ("ruby", "vermilion")),
    "orange": Synonyms(("tangerine",), ("apricot",)),
    "yellow": Synonyms(("golden", "lemon yellow"), ("canary yellow", "mustard yellow")),
    "green": Synonyms(("emerald",), ("jade", "grass green")),
    "blue": Synonyms(("azure", "navy"), ("cobalt", "sapphire")),
    "purple": Synonyms(("violet",), ("mauve", "plum")),
    "pink": Synonyms(("rose-coloured",), ("salmon pink", "bubblegum pink")),
    "teal": Synonyms(("turquoise",), ("cyan", "aqua")),
}

# Slots: {colour}, {noun}, {nouns} (plural) and their articles, and where the scene has them {background}, {position}.
_ONE = (
    *("{colour} {noun}", "{noun}", "{noun} {colour}", "{noun}, {colour}", "{noun} in {colour}"),
    *(
        "{a_noun} {noun}",
        "one {colour} {noun}",
        "my {colour} {noun}",
        "some {colour} {nouns}",
        "{colour} {nouns}",
    ),
    *(
        "{nouns}",
        "the {colour} {noun}",
        "{a_colour} {colour} coloured {noun}",
        "{a_noun} {noun} in {colour}",
    ),
    *(
        "an image of {a_colour} {colour} {noun}",
        "a photo of the {colour} {noun}",
        "a drawing of {a_noun} {noun}",
    ),
    *("{colour} {noun} {background}", "{noun} {background}", "{background}, {a_colour} {colour} {noun}"),
    *(
        "look, {a_colour} {colour} {noun}",
        "show me {a_colour} {colour} {noun}",
        "{a_noun} {noun}, and it is {colour}",
    ),
    *(
        "it is {a_colour} {colour} {noun}",
        "{a_colour} {colour} {noun} stands {background}",
        "{a_noun} {noun} {background}",
    ),
)
_ONE_WITH_POSITION = (
    "{colour} {noun} {position}",
    "{noun} {position}",
    "{position} {a_colour} {colour} {noun}",
)
_TWO = (
    *("{first} and {second}", "{first}, {second}", "{first} {relation} {second}", "{first} with {second}"),
    *("an image of {first} {relation} {second}", "{first} {relation} {second} {background}"),
    *("one {first} {relation} one {second}", "the {first} and the {second}"),
)
_BACKGROUNDS = {
    "sky": ("in the sky", "up in the air", "against the sky"),
    "grass": ("on the grass", "in a meadow", "on a lawn"),
    "sand": ("on the sand", "at the beach", "in the desert"),
    "snow": ("in the snow", "in winter", "on snow"),
    "night": ("at night", "in the dark", "by night"),
    "plain": ("on a plain background", "on grey", "in front of a grey wall"),
}
_POSITIONS = {
    "left": ("on the left", "to the left", "left"),
    "right": ("on the right", "to the right", "right"),
    "top": ("at the top", "up high"),
    "bottom": ("at the bottom", "down low"),
    "middle": ("in the middle", "in the centre"),
}
_RELATIONS = {
    "left of": ("left of", "to the left of"),
    "above": ("above", "over", "on top of"),
}
_IRREGULAR = {"fish": "fish", "squid": "squid", "cactus": "cacti", "butterfly": "butterflies", "calamari": "calamari"}
_SYNONYM_ONE_IN = 3


def plural(noun: str) -> str:
    """The plural of an English noun of the tables, such as "buses"."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def article(word: str) -> str:
    """ "a" or "an" before a word of the tables."""
    if word.startswith("u"):  # a ukulele, an umbrella
        return "an" if word.startswith("umb") else "a"
    return "an" if word[0] in "aeio" else "a"


def _word(name: str, table: dict[str, Synonyms], draws: KeyedDraws) -> str:
    """The canonical name, or one of the synonyms that training may have."""
    synonyms = table.get(name, Synonyms()).trained
    is_synonym = draws.integer(1, _SYNONYM_ONE_IN) == 1
    synonym = draws.choice(synonyms or (name,))  # drawn in any case: so many numbers are used up
    return synonym if is_synonym else name


def _fill_one(template: str, item: SceneObject, about: dict[str, str], draws: KeyedDraws) -> str:
    noun = _word(item.category, CATEGORY_SYNONYMS, draws)
    colour = _word(item.colour, COLOUR_SYNONYMS, draws)
    words = {"noun": noun, "nouns": plural(noun), "colour": colour}
    return template.format(**words, a_noun=article(noun), a_colour=article(colour), **about)


def _finish(text: str, draws: KeyedDraws) -> str:
    """Most as they are; some with capitals, a final stop or both."""
    style = draws.integer(0, 9)
    if style == 0:
        return text.upper()
    if style == 1:
        return text.capitalize()
    if style == 2:
        return f"{text.capitalize()}."
    return f"{text}." if style == 3 else text


def free_captions(scene: Scene, count: int) -> list[str]:
    """Captions in the forms that people type, each true of a scene, if not always of all that it shows.

    Args:
        scene (`Scene`): Its seed and index key the choice, so the result is a pure function.
        count (`int`): How many; two may be equal.

    Returns:
        `list[str]`: English, without any held-out synonym.

    Raises:
        `ValueError`: If `count` is negative, or more than 5.
    """
    if not 0 <= count <= 5:
        raise ValueError(f"`count` must be from 0 to 5 captions, got {count}")
    draws = KeyedDraws(scene.seed, scene.index, _FREE_STREAM)
    positions = position_words(scene)
    result = []
    for _ in range(count):
        about = {"background": draws.choice(_BACKGROUNDS[scene.background])}
        about["position"] = draws.choice(_POSITIONS[draws.choice(positions)]) if positions else ""
        if len(scene.objects) == 1:
            template = draws.choice(_ONE + _ONE_WITH_POSITION if positions else _ONE)
            text = _fill_one(template, scene.objects[0], about, draws)
        else:
            first, second = (_fill_one("{colour} {noun}", item, {}, draws) for item in scene.objects)
            about |= {"first": first, "second": second, "relation": draws.choice(_RELATIONS[scene.relation])}
            text = draws.choice(_TWO).format(**about)
        result.append(_finish(text, draws))
    return result
