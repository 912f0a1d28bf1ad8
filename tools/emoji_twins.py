"""Which emoji are near-twins: the concept that an emoji belongs to, by its name and subgroup."""

from __future__ import annotations

import re

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
        (r"^(pick|axe)$|^hammer", "hammer"),
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
    )
)  # fmt: skip


# The same for people, whose names have lost gender and direction first.
_TWIN_PEOPLE = tuple(
    (re.compile(pattern), stem)
    for pattern, stem in (
        (r"wheelchair", "wheelchair"),
        (r"^(prince|princess|person with crown)$", "crowned person"),
        (r"claus$", "Santa Claus"),
        (r"^(pregnant|breast-feeding|feeding)", "parent"),
        (r"mermaid|mer(man|person)", "merperson"),
        (r"danc(ing|er)", "dancer"),
        (r"turban|skullcap|headscarf", "head covering"),
        (r"(bow|massage|gesturing|tipping|raising hand|facepalm|shrug|pouting|frowning)", "gesture"),
        (r"walking|running|standing|kneeling|white cane", "walking person"),
        (r"person biking|man biking|mountain biking", "cyclist"),
        (r"lotus position|steamy room", "lotus position"),
        (r"ski|snowboard", "skier"),
    )
)  # fmt: skip


def concept_of(name: str, subgroup: str) -> str:
    """The concept that an emoji belongs to; emoji of one concept are near-twins and share a side of the concept split."""
    lowered = name.lower()
    if lowered.startswith("flag: "):
        return _TWIN_SUBGROUPS.get(subgroup, lowered)
    if subgroup in _TWIN_SUBGROUPS:
        return _TWIN_SUBGROUPS[subgroup]
    if subgroup.startswith("person"):
        lowered = _without_gender(lowered)
    people = subgroup.startswith("person") and subgroup != "person-symbol"
    for pattern, stem in _TWIN_PEOPLE if people else _TWIN_NAMES:
        if pattern.search(lowered):
            return stem
    return lowered


def _without_gender(name: str) -> str:
    """A person's name without gender and direction, so that 'woman golfing' and 'person golfing' are one."""
    name = name.removesuffix(": facing right")
    return re.sub(r"^(wo)?m[ae]n |^(person|people) ", "", name) or name
