# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""German: articles and adjectives agree with the gender of the noun and with its case.

Nouns are written in small letters like all else, as the text tokenizers of small worlds read capitals as small ones
and give small ones back. Umlauts and the sharp s are kept.

The nouns are the German short names, or keywords, of the same emoji in the Unicode CLDR 48.2 (npm package
cldr-annotations-full 48.2.0, annotations/de/annotations.json), Copyright 2004-2026 Unicode, Inc., Unicode License V3.
Genders, cases and sentences are ours.
"""

from .templates import LanguageTemplates

# Category -> gender and noun in the nominative, and in the dative if that is another word. CLDR's short name, except
# where that is a phrase or narrower than the category: then the keyword of the same emoji that names the category:
# Baum (Laubbaum), Stern (weißer mittelgroßer Stern), Pilz (Fliegenpilz), Apfel (roter Apfel), Herz (rotes Herz),
# Stiefel (Damenstiefel), Blume (Tulpe), Lastwagen (Lieferwagen), Dinosaurier (Sauropode), Mütze (Baseballmütze),
# Tasche (Handtasche), Buch (geschlossenes Buch), Wal (blasender Wal), Lokomotive (Dampflokomotive).
NOUNS = {
    "bus": ("m", "bus"),
    "tree": ("m", "baum"),
    "fish": ("m", "fisch"),
    "umbrella": ("m", "regenschirm"),
    "star": ("m", "stern"),
    "car": ("n", "auto"),
    "balloon": ("m", "luftballon"),
    "mushroom": ("m", "pilz"),
    "shirt": ("n", "t-shirt"),
    "key": ("m", "schlüssel"),
    "butterfly": ("m", "schmetterling"),
    "apple": ("m", "apfel"),
    "crown": ("f", "krone"),
    "cactus": ("m", "kaktus"),
    "elephant": ("m", "elefant", "elefanten"),
    "heart": ("n", "herz", "herzen"),
    "turtle": ("f", "schildkröte"),
    "teapot": ("f", "teekanne"),
    "chair": ("m", "stuhl"),
    "boot": ("m", "stiefel"),
    "flower": ("f", "blume"),
    "bell": ("f", "glocke"),
    "cat": ("f", "katze"),
    "bird": ("m", "vogel"),
    "house": ("n", "haus"),
    "guitar": ("f", "gitarre"),
    "octopus": ("m", "oktopus"),
    "dress": ("n", "kleid"),
    "crab": ("m", "krebs"),
    "truck": ("m", "lastwagen"),
    "dolphin": ("m", "delfin"),
    "dinosaur": ("m", "dinosaurier"),
    "rabbit": ("m", "hase", "hasen"),
    "cap": ("f", "mütze"),
    "bag": ("f", "tasche"),
    "snake": ("f", "schlange"),
    "pear": ("f", "birne"),
    "horse": ("n", "pferd"),
    "carrot": ("f", "karotte"),
    "bucket": ("m", "eimer"),
    "book": ("n", "buch"),
    "scooter": ("m", "motorroller"),
    "trophy": ("m", "pokal"),
    "telephone": ("n", "telefon"),
    "anchor": ("m", "anker"),
    "magnet": ("m", "magnet", "magneten"),
    "whale": ("m", "wal"),
    "owl": ("f", "eule"),
    "dog": ("m", "hund"),
    "seal": ("m", "seehund"),
    "squid": ("m", "tintenfisch"),
    "bicycle": ("n", "fahrrad"),
    "helicopter": ("m", "hubschrauber"),
    "tractor": ("m", "traktor"),
    "hammer": ("m", "hammer"),
    "pig": ("n", "schwein"),
    "camel": ("n", "dromedar"),
    "kangaroo": ("n", "känguru"),
    "duck": ("f", "ente"),
    "strawberry": ("f", "erdbeere"),
    "drum": ("f", "trommel"),
    "tent": ("n", "zelt"),
    "snail": ("f", "schnecke"),
    "banana": ("f", "banane"),
    "rocket": ("f", "rakete"),
    "shark": ("m", "hai"),
    "penguin": ("m", "pinguin"),
    "cupcake": ("m", "cupcake"),
    "trumpet": ("f", "trompete"),
    "lobster": ("m", "hummer"),
    "train": ("f", "lokomotive"),
    "ladybug": ("m", "marienkäfer"),
    "hedgehog": ("m", "igel"),
}
COLOURS = {
    "red": "rot",
    "orange": "orange",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "lila",
    "pink": "rosa",
    "teal": "türkis",
}
UNINFLECTED = ("orange", "lila", "rosa", "türkis")  # in the standard language: ein lila Bus, eine lila Katze
SIZES = {"small": "klein", "big": "groß"}

# Gender -> articles, and the ending of an adjective after "ein".
_ARTICLES = {
    "m": {"ein": "ein", "einem": "einem", "der": "der", "dem": "dem"},
    "f": {"ein": "eine", "einem": "einer", "der": "die", "dem": "der"},
    "n": {"ein": "ein", "einem": "einem", "der": "das", "dem": "dem"},
}
_ENDINGS = {"m": "er", "f": "e", "n": "es"}


def _adjective(name: str, word: str, gender: str) -> dict[str, str]:
    """As a predicate, and after "ein", "der", and "dem" or "einem"."""
    endings = {"ein": _ENDINGS[gender], "der": "e", "dem": "en"}
    bare = word in UNINFLECTED
    return {name: word} | {f"{name}_{form}": word if bare else word + ending for form, ending in endings.items()}


def _words(category: str, colour: str, size: str | None) -> dict[str, str]:
    if category not in NOUNS:
        raise ValueError(f"`categories` with a German noun are {', '.join(NOUNS)}; got {category!r}")
    gender, noun, *dative = NOUNS[category]
    words = {"category": noun, "category_dem": (*dative, noun)[0]} | _ARTICLES[gender]
    words |= _adjective("colour", COLOURS[colour], gender)
    return words if size is None else words | _adjective("size", SIZES[size], gender)


GERMAN = LanguageTemplates(
    name="German",
    words=_words,
    phrases={
        "a": "{ein#} {colour_ein#} {category#}",
        "of_a": "{einem#} {colour_dem#} {category_dem#}",
        "sized": "{ein#} {size_ein#} {colour_ein#} {category#}",
        "of_sized": "{einem#} {size_dem#} {colour_dem#} {category_dem#}",
        "the": "{der#} {colour_der#} {category#}",
        "of_the": "{dem#} {colour_dem#} {category_dem#}",
    },
    backgrounds={
        "sky": "am himmel",
        "grass": "auf der wiese",
        "sand": "im sand",
        "snow": "im schnee",
        "night": "bei nacht",
        "plain": "vor schlichtem hintergrund",
    },
    positions={"left": "links", "right": "rechts", "top": "oben", "bottom": "unten", "middle": "in der mitte"},
    relations={"left of": "links von", "right of": "rechts von", "above": "über", "below": "unter"},
    plain=(
        "{a0}",
        "da ist {a0}",
        "das ist {a0}",
        "ein bild von {of_a0}",
        "{der0} {category0} ist {colour0}",
        "{ein0} {category0}, {der0} {colour0} ist",
    ),
    with_background=(
        "{a0} {background}",
        "da ist {a0} {background}",
        "ein bild von {of_a0} {background}",
        "{background} ist {a0} zu sehen",
        "{der0} {category0} {background} ist {colour0}",
    ),
    with_size=("{sized0}", "da ist {sized0}", "{sized0} {background}", "{the0} ist {size0}"),
    with_position=("{position} ist {a0}", "{position} ist {a0} {background}", "{the0} ist {position}"),
    with_size_and_position=("{position} ist {sized0}", "{position} ist {sized0} {background}"),
    pair=(
        "{a0} {relation} {of_a1}",
        "da ist {a0} {relation} {of_a1}",
        "ein bild von {of_a0} {relation} {of_a1}",
        "{the0} ist {relation} {of_the1}",
        "{a0} und {a1}",
    ),
    pair_with_background=(
        "{a0} {relation} {of_a1} {background}",
        "{background} ist {a0} {relation} {of_a1} zu sehen",
        "{a0} und {a1} {background}",
    ),
    pair_with_size=(
        "{sized0} {relation} {of_a1}",
        "{a0} {relation} {of_sized1}",
        "{sized0} {relation} {of_a1} {background}",
    ),
    contractions={"von dem": "vom"},
    source="nouns: Unicode CLDR 48.2, © 2004-2026 Unicode, Inc., [Unicode License V3](https://www.unicode.org/license.txt)",
)
