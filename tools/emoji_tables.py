"""What the emoji set is made of, as tables: packages, artists, the 20 classes, names that need a hand, near-twins."""

from __future__ import annotations

import re
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

# Whole subgroups whose members differ in a detail: a colour, a number, a direction, an expression on the same head.
_TWIN_SUBGROUPS = {
    "heart": "heart", "family": "family", "person": "person", "arrow": "arrow", "av-symbol": "button", "zodiac": "zodiac",
    "keycap": "keycap", "geometric": "geometric", "cat-face": "cat face", "monkey-face": "monkey", "gender": "gender",
    "alphanum": "squared text", "math": "mathematics", "punctuation": "punctuation", "award-medal": "medal",
    "skin-tone": "skin", "subdivision-flag": "flag united kingdom",
}  # fmt: skip

# First match wins; searched in the lower-case name. Each joins pictures that a copy with a small change would give.
_TWIN_NAMES = tuple(
    (re.compile(pattern), stem)
    for pattern, stem in (
        (r"o’clock|-thirty", "clock face"),
        (r"\bmoon\b(?!.*(cake|viewing))", "moon"),
        (r"^family|busts? in silhouette|people hugging", "family"),
        (r"\bheart suit|spade suit|diamond suit|club suit", "card suit"),
        (r"^kissing (face|cat)|face blowing a kiss", "kissing face"),
        (r"^(grinning|beaming|smiling|slightly smiling|upside-down|melting|winking|face with tears|rolling on).*(face|laughing|joy)"
         r"|^star-struck", "smiling face"),
        (r"face.*tongue|face savoring", "face with tongue"),
        (r"frown|worried|confused|diagonal mouth", "frowning face"),
        (r"angry face|enraged|steam from nose|symbols on mouth", "angry face"),
        (r"crying|sad but relieved|holding back tears|pleading", "crying face"),
        (r"(anguished|fearful|anxious|hushed|astonished|flushed|screaming|open mouth).*", "astonished face"),
        (r"confounded|persevering|weary face|tired face|disappointed|downcast|pensive|relieved face", "weary face"),
        (r"neutral face|expressionless|without mouth|dotted line|smirking|unamused|head shaking|shaking face", "neutral face"),
        (r"cat face|^cat$|black cat", "cat"),
        (r"^monkey", "monkey"),
        (r"dog face|^dog$|guide dog|service dog", "dog"),
        (r"tiger", "tiger"),
        (r"^(horse face|horse)$", "horse"),
        (r"^(cow|cow face|ox|water buffalo|bison)$", "cattle"),
        (r"^(pig|pig face|pig nose|boar)$", "pig"),
        (r"^(ram|ewe|goat)$", "sheep"),
        (r"camel", "camel"),
        (r"^(mouse|mouse face|rat|hamster)$", "mouse"),
        (r"rabbit", "rabbit"),
        (r"^(bear|polar bear|panda|koala)$", "bear"),
        (r"chick\b|^(chicken|rooster)", "chick"),
        (r"^(bird|black bird)$", "bird"),
        (r"^(swan|goose|duck)$", "waterfowl"),
        (r"dragon( face)?$", "dragon"),
        (r"^(spouting whale|whale)$", "whale"),
        (r"^(fish|tropical fish|blowfish)$", "fish"),
        (r"^(spider|spider web)$", "spider"),
        (r"^(beetle|bug|lady beetle|cockroach)$", "beetle"),
        (r"apple$", "apple"),
        (r"^(lemon|lime|tangerine)$", "citrus"),
        (r"pepper$", "pepper"),
        (r"^(mushroom|brown mushroom)$", "mushroom"),
        (r"(green|blue|orange|closed) book|^notebook", "book"),
        (r"banknote", "banknote"),
        (r"mailbox", "mailbox"),
        (r"envelope$|^e-mail|^envelope with", "envelope"),
        (r"speaker (low|medium|high)|muted speaker", "speaker"),
        (r"^(locked|unlocked)", "lock"),
        (r"^bell", "bell"),
        (r"magnifying glass", "magnifying glass"),
        (r"^camera", "camera"),
        (r"backhand index|^index pointing", "pointing finger"),
        (r"thumbs", "thumb"),
        (r"fist$", "fist"),
        (r"(rightwards|leftwards|palm (up|down)).*hand", "sideways hand"),
        (r"^(raised hand|raised back of hand|hand with fingers splayed|waving hand|vulcan salute)$", "open hand"),
        (r"^(love-you gesture|sign of the horns|call me hand)$", "horns hand"),
        (r"^(ear|ear with)", "ear"),
        (r"^(eye|eyes)$", "eye"),
        (r"^(oncoming )?(automobile|taxi|police car|bus)$|sport utility|^(minibus|trolleybus)", "road vehicle"),
        (r"^(train|metro|tram|light rail|railway car|tram car|high-speed train|bullet train|monorail|station)$", "train"),
        (r"airplane", "airplane"),
        (r"^(motorcycle|motor scooter)$", "motorcycle"),
        (r"wheelchair$", "wheelchair"),
        (r"traffic light", "traffic light"),
        (r"cableway|tramway|suspension railway", "cable car"),
        (r"^(ship|passenger ship|ferry)$", "ship"),
        (r"^(speedboat|motor boat)$", "motor boat"),
        (r"^(mountain|snow-capped mountain|mount fuji)$", "mountain"),
        (r"^(house|houses|derelict house|house with garden)$", "house"),
        (r"post office|office building|^(hospital|hotel|love hotel|bank|convenience store|department store|school)$",
         "front of a building"),
        (r"castle$", "castle"),
        (r"^(sunrise|sunset|sunrise over|cityscape|night with stars|bridge at night|foggy)", "cityscape"),
        (r"^globe showing", "globe"),
        (r"^(cloud|sun behind|fog$)", "cloud"),
        (r"^(sun|sun with face)$", "sun"),
        (r"umbrella", "umbrella"),
        (r"^snowman", "snowman"),
        (r"^(star|glowing star|shooting star)$", "star"),
        (r"^(hourglass)", "hourglass"),
        (r"^(alarm clock|stopwatch|timer clock|mantelpiece clock|watch)$", "clock"),
        (r"calendar", "calendar"),
        (r"^chart|bar chart", "chart"),
        (r"file folder|card index dividers", "folder"),
        (r"pushpin", "pushpin"),
        (r"paperclip", "paperclip"),
        (r"ruler", "ruler"),
        (r"^(pen|pencil|fountain pen|crayon|paintbrush|black nib)$", "pen"),
        (r"(outbox|inbox) tray", "tray"),
        (r"musical note|musical score", "musical note"),
        (r"microphone", "microphone"),
        (r"telephone|^mobile phone|vibration mode", "telephone"),
        (r"battery", "battery"),
        (r"disk$|^dvd", "disk"),
        (r"newspaper", "newspaper"),
        (r"^page |^(scroll|memo|bookmark tabs|clipboard|ledger)$", "page"),
        (r"speech b|anger bubble|thought balloon", "bubble"),
        (r"beer mug", "beer"),
        (r"^(wine glass|cocktail glass|tropical drink|clinking glasses|tumbler glass)$", "glass"),
        (r"fork and knife", "fork and knife"),
        (r"^(soft ice cream|ice cream|shaved ice)$", "ice cream"),
        (r"^(shortcake|birthday cake|cupcake)$", "cake"),
        (r"^(sandwich|hamburger|bagel)$", "sandwich"),
        (r"^(taco|burrito|stuffed flatbread|flatbread)$", "wrap"),
        (r"^(cooked rice|curry rice|steaming bowl|bowl with spoon|pot of food|shallow pan of food|green salad)$", "bowl"),
        (r"^(meat on bone|poultry leg)$", "leg of meat"),
        (r"^(bread|baguette bread|croissant)$", "bread"),
        (r"tree$", "tree"),
        (r"^(seedling|herb|potted plant|sheaf of rice)$", "green plant"),
        (r"(shamrock|four leaf clover)", "clover"),
        (r"(maple leaf|fallen leaf|leaf fluttering)", "leaf"),
        (r"^(rose|wilted flower|tulip)$", "rose"),
        (r"^(blossom|sunflower|white flower|cherry blossom|hibiscus|rosette)$", "blossom"),
        (r"^(baseball|softball|tennis)$", "small ball"),
        (r"(american|rugby) football", "football"),
        (r"^(basketball|volleyball|soccer ball|pool 8 ball)$", "ball"),
        (r"hockey|lacrosse|cricket game", "hockey"),
        (r"^(ping pong|badminton)$", "racket"),
        (r"^(hammer|pick|axe|hammer and)", "hammer"),
        (r"^(wrench|screwdriver|nut and bolt)$", "wrench"),
        (r"^(dagger|crossed swords|kitchen knife)$", "blade"),
        (r"^(man’s shoe|running shoe|hiking boot|flat shoe|high-heeled shoe|woman’s sandal|ballet shoes|woman’s boot"
         r"|thong sandal)$", "shoe"),
        (r"^(glasses|sunglasses|goggles)$", "glasses"),
        (r"^(purse|handbag|clutch bag)$", "handbag"),
        (r"^(military helmet|rescue worker’s helmet)$", "helmet"),
        (r"^(bikini|one-piece swimsuit)$", "swimsuit"),
        (r"^(coat|lab coat)$", "coat"),
        (r"^(dress|sari|kimono)$", "dress"),
        (r"check (mark|box)", "check mark"),
        (r"cross mark", "cross mark"),
        (r"curly loop", "curly loop"),
        (r"star of david|six-pointed star", "star of David"),
        (r"latin cross|orthodox cross", "cross"),
        (r"men’s room|women’s room|restroom", "restroom"),
        (r"^no |^non-potable|prohibited", "prohibited"),
        (r"^(admission tickets|ticket)$", "ticket"),
        (r"^(sparkles|sparkle)$", "sparkles"),
        (r"^(fireworks|sparkler)$", "fireworks"),
        (r"^(black|white) flag$|pirate flag|triangular flag", "plain flag"),
        (r"^(rainbow flag|transgender flag)$", "pride flag"),
        (r"^(prince|princess|person with crown)$", "crowned person"),
        (r"claus$", "Santa Claus"),
        (r"^(pregnant|breast-feeding|(wo)?man feeding|person feeding)", "parent"),
        (r"mermaid|mer(man|person)", "merperson"),
        (r"(man|ballet) danc(ing|er)", "dancer"),
        (r"turban|skullcap|headscarf", "head covering"),
        (r"(bow|massage|gesturing|tipping|raising hand|facepalm|shrug|pouting|frowning)", "gesture"),
        (r"walking|running|standing|kneeling|white cane", "walking person"),
        (r"person biking|man biking|mountain biking", "cyclist"),
        (r"lotus position|steamy room", "lotus position"),
        (r"ski|snowboard", "skier"),
    )
)  # fmt: skip


def concept_of(name: str, subgroup: str, hexcode: str) -> str:
    """The concept that an emoji belongs to; emoji of one concept are near-twins and share a side of the concept split."""
    lowered = name.lower()
    if lowered.startswith("flag: "):
        return _TWIN_SUBGROUPS.get(subgroup, lowered)
    if subgroup in _TWIN_SUBGROUPS:
        return _TWIN_SUBGROUPS[subgroup]
    if subgroup.startswith("person"):
        lowered = _without_gender(lowered)
    for pattern, stem in _TWIN_NAMES:
        if pattern.search(lowered):
            return stem
    return lowered


def _without_gender(name: str) -> str:
    """A person's name without gender and direction, so that 'woman golfing' and 'person golfing' are one."""
    name = name.removesuffix(": facing right")
    return re.sub(r"^(wo)?m[ae]n |^(person|people) ", "", name) or name


# Iconify names of fxemoji are Mozilla's own; these were matched by eye beside twemoji. An empty code: not used (the
# drawing is broken, nearly invisible, or of something else than its name says).
FXEMOJI_NAMES = {
    "2hearts": "1F495", "acorn": "1F330", "americasglobe": "1F30E", "anger": "1F4A2", "angry": "1F620",
    "anguish": "1F627", "aok": "1F44C", "asiaaustraliaglobe": "1F30F", "astonished": "1F632", "aubergine": "1F346",
    "automatedtellermachine": "1F3E7", "backwithleftwardsarrow": "1F519", "banknotedollar": "1F4B5",
    "banknoteeuro": "1F4B6", "banknotepound": "1F4B7", "banknoteyen": "1F4B4", "beachumbrella": "1F3D6",
    "beating-heart": "1F493", "bellcancellation": "1F515", "blackquestionmark": "2753", "blackskullcrossbones": "2620",
    "blacktelephone": "260E", "blackwaving": "", "blonde": "1F471", "bolt": "26A1", "bookmarktab": "1F4D1",
    "bow": "1F380", "bowing": "1F647", "bride": "1F470", "bullhorn": "1F4E2", "bunny": "1F430", "bunny-ears": "1F46F",
    "bunnyside": "1F407", "cat": "1F431", "catside": "1F408", "cellphone": "1F4F1", "chartdownwardstrend": "1F4C9",
    "chartupwardstrend": "1F4C8", "chartupwardstrendyen": "1F4B9", "chicken": "1F414", "chilipepper": "1F336",
    "chineseflag": "1F1E8-1F1F3", "clap": "1F44F", "clock12oclock": "1F55B", "clock12thirty": "1F567",
    "clock1oclock": "1F550", "clock1thirty": "1F55C", "clock2oclock": "1F551", "clock2thirty": "1F55D",
    "clock3oclock": "1F552", "clock3thirty": "1F55E", "clock4oclock": "1F553", "clock4thirty": "1F55F",
    "clock5thirty": "1F560", "clock6oclock": "1F555", "clock6thirty": "1F561", "clock7oclock": "1F556",
    "closedmailboxlowered": "1F4EA", "closedmailboxraised": "1F4EB", "coldsweat": "1F630", "confetti": "1F38A",
    "confounded": "1F616", "confused": "1F615", "construct": "1F477", "construction": "1F3D7", "controlknob": "1F39B",
    "cop": "1F46E", "couple": "1F491", "couplekiss": "1F48F", "cow": "1F404", "cowface": "1F42E", "crying": "1F622",
    "custard": "1F36E", "daggerknife": "1F5E1", "darksunglasses": "1F576", "dash": "1F4A8", "deliverytruck": "1F69A",
    "devilhorns": "1F608", "diamondshapewithdotinside": "1F4A0", "directhit": "1F3AF", "disappointed": "1F61E",
    "dissapointedrelief": "1F625", "dizzy": "1F4AB", "dizzyface": "1F635", "dog": "1F436", "dogside": "1F415",
    "doubleexclaimationmark": "203C", "doughnut": "1F369", "doveofpeace": "1F54A", "down": "1F447",
    "dragonhead": "1F432", "dragonside": "1F409", "earofmaize": "1F33D", "earofrice": "1F33E",
    "eightspokedasterix": "2733", "electrictorch": "1F526", "endwithleftwardsarrow": "1F51A",
    "envelopedownarrowabove": "1F4E9", "europeafricaglobe": "1F30D", "evergreen": "1F332",
    "exclaimationquestionmark": "2049", "expressionless": "1F611", "eye": "1F441", "fallingleaf": "1F342",
    "fatherchristmas": "1F385", "faxmachine": "1F4E0", "fearful": "1F628", "fireworksparkler": "1F387",
    "fishcakeswirl": "1F365", "fistedhand": "1F44A", "flexbicep": "1F4AA", "floppydisk2": "1F4BE", "flushed": "1F633",
    "fog": "", "forkknife": "1F37D", "foxcrying": "1F63F", "foxgrin": "1F638", "foxheart": "1F63B",
    "foxkissing": "1F63D", "foxpouting": "1F63E", "foxsmiling": "1F63A", "foxtearofjoy": "1F639", "foxweary": "1F640",
    "foxwry": "1F63C", "franceflag": "1F1EB-1F1F7", "frontfacingchick": "1F425", "frown": "1F64D",
    "frownmouth": "1F626", "gem": "1F48E", "girl": "1F467", "girlgirl": "1F46D", "girlguy": "1F46B", "gma": "1F475",
    "gpa": "1F474", "greatbritainflag": "1F1EC-1F1E7", "grimacing": "1F62C", "grin": "1F600", "grineyes": "1F604",
    "grinsquint": "1F606", "grinsweat": "1F605", "grintears": "1F602", "grinwide": "1F603", "grinwideeyes": "1F601",
    "guapimao": "1F472", "guyguy": "1F46C", "halo": "1F607", "hampster": "1F439", "hand": "270B",
    "handheldvideocamera": "1F4F9", "hands": "1F450", "handup": "1F64B", "headmassage": "1F486", "heartarrow": "1F498",
    "heartblue": "", "hearteyes": "1F60D", "heartgreen": "1F49A", "heartpurple": "1F49C", "heartribbon": "1F49D",
    "heartyellow": "1F49B", "heavyexclaimationmarksymbol": "2757", "heavymultiplicationsymbol": "2716",
    "heels": "1F460", "high5": "270B", "highbrightness": "1F506", "highspeedtrainbulletnose": "1F685",
    "hocho": "1F52A", "horse": "1F40E", "hotbeverage": "2615", "housebuilding": "1F3E0", "housebuildings": "1F3D8",
    "hushed": "1F62F", "imp": "1F47F", "index": "261D", "italianflag": "1F1EE-1F1F9", "japaneseangrymask": "1F47A",
    "japanflag": "1F1EF-1F1F5", "keyboard": "", "kiss": "1F618", "kissclosedeyes": "1F61A", "kisseyes": "1F619",
    "kissing": "1F617", "koala": "1F428", "koreaflag": "1F1F0-1F1F7", "leaffluttering": "1F343", "left": "1F448",
    "leftmagnifyingglass": "1F50D", "leftwritinghand": "270D", "leopardside": "1F406", "lips": "1F444",
    "lock": "1F512", "lockandkey": "1F510", "loudlycrying": "1F62D", "lowbrightness": "1F505",
    "lowerleftcrayon": "1F58D", "lowerleftfountainpen": "1F58B", "lowerleftpaintbrush": "1F58C",
    "lowerleftpen": "1F58A", "lowerleftpencil": "270F", "manltepiececlock": "1F570", "mansshirt": "1F455",
    "medicalmask": "1F637", "mensrunner": "1F45F", "mensshoe": "1F45E", "meridianglobe": "1F310", "minidisc": "1F4BD",
    "monkey": "1F412", "monkeyhear": "1F649", "monkeysee": "1F648", "monkeyspeak": "1F64A", "mouse": "1F42D",
    "mouseside": "1F401", "multiplemusicalnotes": "1F3B6", "negativesquaredlatincaptiala": "1F170",
    "negativesquaredlatincaptialb": "1F171", "negativesquaredlatincaptialo": "1F17E", "neutral": "1F610",
    "nogesture": "1F645", "nomouth": "1F636", "nooneunder18symbol": "1F51E", "notebookdecorativecover": "1F4D4",
    "okgesture": "1F646", "onarrowleftright": "1F51B", "openlock": "1F513", "openmailboxlowered": "1F4ED",
    "openmailboxraised": "1F4EC", "openmouth": "1F62E", "opticaldisc": "1F4BF", "outbox": "1F4E4", "ox": "1F402",
    "pandaface": "1F43C", "pensive": "1F614", "perservere": "1F623", "phonerightarrowleft": "1F4F2", "pig": "1F437",
    "pigside": "1F416", "pigsnout": "1F43D", "pinkwallet": "1F45B", "pistol": "1F52B",
    "policecarsrevolvinglight": "1F6A8", "poo": "1F4A9", "potablewatersystem": "1F6B0", "pout": "1F64E",
    "pouting": "1F621", "pray": "1F64F", "present": "1F381", "ram": "1F40F", "rat": "1F400", "redapple": "1F34E",
    "redheart": "2764", "relieved": "1F60C", "reminder": "1F397", "reversehandmiddlefinger": "1F595",
    "reverseraisedhandsfingerssplayed": "1F590", "right": "1F449", "rightmagnifyingglass": "1F50E",
    "ringingbell": "1F514", "russianflag": "1F1F7-1F1FA", "saggitarius": "2650", "sandals": "1F461",
    "scorpius": "264F", "screamfear": "1F631", "seat": "1F4BA", "shavedice": "1F367", "sheep": "1F411",
    "silhouetteohjapan": "1F5FE", "sixpointedstarwithdot": "1F52F", "sleeping": "1F634", "sleepy": "1F62A",
    "sleuthspy": "1F575", "sliceofpizza": "1F355", "smallfrown": "1F641", "smallsmile": "1F642", "smileeyes": "1F60A",
    "smiletongue": "1F60B", "smirk": "1F60F", "snowmountains": "1F3D4", "softicecream": "1F366",
    "soonwithrightarrow": "1F51C", "spanishflag": "1F1EA-1F1F8", "sparkle": "2747", "speaker3soundwaves": "1F50A",
    "speakercancellation": "1F507", "speakeronesoundwave": "1F509", "speechbubble": "1F4AC", "spurtingwhale": "1F433",
    "squaredup": "1F199", "star": "2B50", "steamingbowl": "1F35C", "stormcloud": "1F329", "studiomic": "1F399",
    "sunglasses": "1F60E", "sunraincloud": "1F326", "sunrays": "2600", "sweat": "1F613", "sweatsplash": "1F4A6",
    "telephonereceiver2": "1F4DE", "ten": "1F51F", "tennisball": "1F3BE", "thoughtbaloon": "1F4AD",
    "thumbsup": "1F44D", "tie": "1F454", "tiger": "1F42F", "tigerside": "1F405", "tired": "1F62B",
    "tongueout": "1F61B", "tongueoutwink": "1F61C", "tongueoutwink2": "1F61D", "topwithupwardsarrow": "1F51D",
    "tornado": "1F32A", "toykotower": "1F5FC", "tramcar": "", "triumph": "1F624", "turban": "1F473",
    "umbrella": "1F302", "umbrellawithraindrops": "2614", "unamused": "1F612", "up": "1F446", "videocasette": "1F4FC",
    "waitress": "1F481", "waningbibbousmoon": "1F316", "waterbuffalo": "1F403", "wave": "1F30A", "waving": "1F44B",
    "weary": "1F629", "wedding": "1F492", "whale": "1F40B", "whiteexclaimationmark": "2755", "whitelatincross": "271D",
    "whitemediumstar": "", "whitesmilingface": "263A", "winking": "1F609", "wiredkeyboard": "2328",
    "wolfface": "1F43A", "womanshat": "1F452", "womansshirt": "1F45A", "worried": "1F61F",
}  # fmt: skip
