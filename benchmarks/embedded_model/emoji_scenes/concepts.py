"""The concepts that the embedded model learns to name: one row a concept, with the emoji that draw it.

A concept is a name a person would type; several emoji may draw one concept. A group word (animal, fruit, ...) is
true of every concept of its group. A tinted concept is drawn in several colours and captioned "red car".
"""

from dataclasses import dataclass

GROUPS = {
    "animal": """
        cat 🐈🐱 | dog 🐕🐶 | mouse 🐁🐭 | rabbit 🐇🐰 | fox 🦊 | bear 🐻 | panda 🐼 | koala 🐨 | tiger 🐅🐯
        lion 🦁 | cow 🐄🐮 | pig 🐖🐷 | frog 🐸 | monkey 🐒🐵 | gorilla 🦍 | horse 🐎🐴 | unicorn 🦄 | zebra 🦓 | deer 🦌
        sheep 🐑 | goat 🐐 | camel 🐫 | giraffe 🦒 | elephant 🐘 | rhino 🦏 | hippo 🦛 | kangaroo 🦘 | wolf 🐺
        raccoon 🦝 | squirrel 🐿 | hedgehog 🦔 | bat 🦇 | sloth 🦥 | crocodile 🐊
        turtle 🐢 | snake 🐍 | lizard 🦎 | dragon 🐉🐲 | dinosaur 🦕🦖
    """,
    "bird": """
        chicken 🐔🐓 | chick 🐤🐥 | penguin 🐧 | eagle 🦅 | duck 🦆 | swan 🦢 | owl 🦉 | flamingo 🦩 | peacock 🦚
        parrot 🦜 | turkey 🦃
    """,
    "sea animal": """
        fish 🐟🐠 | shark 🦈 | dolphin 🐬 | whale 🐳🐋 | octopus 🐙 | squid 🦑 | crab 🦀 | lobster 🦞
        shrimp 🦐
    """,
    "insect": """
        bee 🐝 | butterfly 🦋 | ladybug 🐞 | ant 🐜 | snail 🐌 | caterpillar 🐛 | spider 🕷 | scorpion 🦂

    """,
    "fruit": """
        grapes 🍇 | watermelon 🍉 | orange 🍊 | lemon 🍋 | banana 🍌 | pineapple 🍍 | pear 🍐
        peach 🍑 | cherries 🍒 | strawberry 🍓 | blueberries 🫐 | kiwi 🥝 | red apple 🍎 | green apple 🍏
    """,
    "vegetable": """
        tomato 🍅 | avocado 🥑 | eggplant 🍆 | potato 🥔 | carrot 🥕 | corn 🌽 | chili pepper 🌶 | cucumber 🥒
        broccoli 🥦 | garlic 🧄 | onion 🧅 | mushroom 🍄
    """,
    "food": """
        pizza 🍕 | hamburger 🍔 | french fries 🍟 | hot dog 🌭 | sandwich 🥪 | taco 🌮 | egg 🥚 | fried egg 🍳
        bread 🍞 | croissant 🥐 | baguette 🥖 | pretzel 🥨 | pancakes 🥞 | waffle 🧇 | cheese 🧀
        meat 🍖 | salad 🥗 | popcorn 🍿 | sushi 🍣 | spaghetti 🍝 | noodles 🍜
    """,
    "dessert": """
        ice cream 🍦🍨 | donut 🍩 | cookie 🍪 | birthday cake 🎂 | cake 🍰 | cupcake 🧁 | pie 🥧 | chocolate 🍫 | candy 🍬
        lollipop 🍭 | honey 🍯
    """,
    "drink": """
        milk 🥛 | coffee ☕ | tea 🍵 | wine 🍷 | beer 🍺🍻 | cocktail 🍸🍹
    """,
    "vehicle": """
        taxi 🚕 | bus 🚌 | police car 🚓 | ambulance 🚑 | fire truck 🚒 | truck 🚚🚛 | tractor 🚜 | race car 🏎
        motorcycle 🏍 | scooter 🛵 | bicycle 🚲 | train 🚂🚆 | tram 🚋🚊 | airplane ✈🛩 | helicopter 🚁 | rocket 🚀
        ufo 🛸 | sailboat ⛵ | ship 🚢 | skateboard 🛹
    """,
    "building": """
        house 🏠🏡 | castle 🏰🏯 | church ⛪ | hospital 🏥 | tent ⛺ | skyscraper 🏢 | fountain ⛲
        tower 🗼 | ferris wheel 🎡
    """,
    "plant": """
        tree 🌳 | pine tree 🌲 | palm tree 🌴 | cactus 🌵 | rose 🌹 | sunflower 🌻 | tulip 🌷 | cherry blossom 🌸
        leaf 🍃🌿 | clover 🍀 | potted plant 🪴 | bouquet 💐
    """,
    "nature": """
        sun ☀🌞 | moon 🌙🌛 | star ⭐🌟 | cloud ☁ | rainbow 🌈 | lightning ⚡ | fire 🔥 | snowflake ❄
        snowman ⛄☃ | tornado 🌪 | mountain 🏔🗻 | earth 🌍🌎 | planet 🪐
    """,
    "sport": """
        soccer ball ⚽ | basketball 🏀 | football 🏈 | baseball ⚾ | tennis ball 🎾 | volleyball 🏐 | bowling 🎳 | golf ⛳
        dart board 🎯 | kite 🪁 | trophy 🏆 | medal 🏅🥇
    """,
    "music": """
        guitar 🎸 | violin 🎻 | trumpet 🎺 | drum 🥁 | piano 🎹 | saxophone 🎷 | microphone 🎤🎙 | headphones 🎧
        radio 📻
    """,
    "clothing": """
        glasses 👓 | sunglasses 🕶 | jeans 👖 | tie 👔 | dress 👗 | socks 🧦 | gloves 🧤 | coat 🧥
        shirt 👕👚 | sneaker 👟 | boot 👢🥾 | high heel 👠 | hat 👒 | top hat 🎩 | crown 👑 | ring 💍 | handbag 👜
        backpack 🎒 | watch ⌚
    """,
    "device": """
        phone 📱 | telephone ☎📞 | laptop 💻 | computer 🖥 | keyboard ⌨ | camera 📷📸 | television 📺
        light bulb 💡 | flashlight 🔦 | battery 🔋 | clock 🕰⏰ | hourglass ⌛⏳ | telescope 🔭
        game controller 🎮 | joystick 🕹 | robot 🤖
    """,
    "tool": """
        hammer 🔨 | axe 🪓 | wrench 🔧 | screwdriver 🪛 | scissors ✂ | pencil ✏ | paintbrush 🖌 | key 🔑🗝 | lock 🔒
        knife 🔪 | sword ⚔🗡 | shield 🛡 | anchor ⚓ | bucket 🪣 | ladder 🪜 | syringe 💉
        pill 💊 | fork 🍴 | spoon 🥄
    """,
    "furniture": """
        chair 🪑 | couch 🛋 | bed 🛏 | toilet 🚽 | door 🚪
    """,
    "person": """
        baby 👶 | man 👨 | woman 👩 | santa 🎅 | clown 🤡 | ghost 👻 | alien 👽👾 | skull 💀
        smiling face 😀😄 | crying face 😭😢 | angry face 😡😠
    """,
    "": """
        envelope ✉📧 | money 💵💰 | gem 💎 | teddy bear 🧸 | pumpkin 🎃 | christmas tree 🎄 | candle 🕯
        bell 🔔 | flag 🚩 | map 🗺 | dice 🎲 | bomb 💣 | shopping cart 🛒 | suitcase 🧳 | bone 🦴
        eye 👁 | nose 👃 | hand ✋🖐 | stop sign 🛑 | traffic light 🚦🚥 | yarn 🧶
        red book 📕 | green book 📗 | blue book 📘 | red heart ❤ | blue heart 💙 | green heart 💚 | yellow heart 💛
        purple heart 💜 | red circle 🔴 | blue circle 🔵 | green circle 🟢 | yellow circle 🟡 | red square 🟥
        blue square 🟦 | green square 🟩 | yellow square 🟨 | calendar 📅 | broken heart 💔
    """,
}

# drawn in every colour of TINTS and captioned with it: "red car"
TINTED = {"car": ("vehicle", "🚗🚙"), "balloon": ("", "🎈"), "umbrella": ("", "☂🌂"), "gift": ("", "🎁")}
TINTS = {"red": 0.0, "yellow": 0.15, "green": 0.36, "blue": 0.6, "purple": 0.77}

# groups that are themselves members of a wider one
WIDER = {"bird": "animal", "sea animal": "animal", "insect": "animal", "dessert": "food", "fruit": "food", "vegetable": "food"}

# the word a name shares with its kin is true of it as well: a "red heart" is a "heart"
HEADS = ("apple", "book", "heart", "circle", "square", "tree")


@dataclass(frozen=True)
class Concept:
    """One thing that can be drawn: its name, its emoji, its tint (a hue in [0, 1) or None), and every word true of it."""

    name: str
    emoji: tuple[str, ...]
    tint: float | None
    truths: frozenset[str]


def _truths(name: str, group: str) -> frozenset[str]:
    words = {name, group, WIDER.get(group, "")}
    words |= {head for head in HEADS if name.endswith(" " + head)}
    return frozenset(words - {""})


def concepts() -> list[Concept]:
    """Every concept, in a fixed order."""
    rows = []
    for group, text in GROUPS.items():
        for cell in text.replace("\n", "|").split("|"):
            if cell.strip():
                name, emoji = cell.strip().rsplit(" ", 1)
                rows.append(Concept(name, tuple(emoji), None, _truths(name, group)))
    for name, (group, emoji) in TINTED.items():
        for colour, hue in TINTS.items():
            tinted = f"{colour} {name}"
            rows.append(Concept(tinted, tuple(emoji), hue, _truths(tinted, group) | {name}))
    return rows


def names() -> list[str]:
    """Every name and group word that captions use, sorted."""
    return sorted(set().union(*(row.truths for row in concepts())))
