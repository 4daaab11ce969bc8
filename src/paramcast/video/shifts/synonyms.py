"""Table of concepts and their synonyms, from which the vocabularies of devices are made.

A line is a concept: its common word, then one to three synonyms. No word occurs twice in the whole table, so
that each word has exactly one concept, and rewriting a text twice gives the same as rewriting it once. The
forms of irregular verbs and nouns are listed below.
"""

from __future__ import annotations

NOUNS = """
man: guy gentleman fellow
woman: lady female dame
boy: lad youngster youth
girl: lass maiden
person: individual human someone
child: kid toddler infant
people: folk populace
group: bunch gang troop
crowd: throng mob multitude
audience: spectators public
friend: pal buddy mate
couple: pair duo
player: athlete sportsman
chef: cuisinier baker
singer: vocalist crooner
reporter: journalist newsman correspondent
character: figure persona role
host: presenter emcee
actor: performer thespian
wrestler: grappler
animal: creature beast critter
cat: kitty feline tabby
dog: hound pooch canine
bird: fowl birdie
fish: seafood
horse: pony steed stallion
baby: newborn babe
robot: android droid automaton
car: automobile vehicle motorcar
truck: lorry rig
van: minivan
motorcycle: motorbike chopper
bike: bicycle cycle
boat: vessel ship
airplane: plane aircraft jet
train: locomotive railcar
stroller: pram buggy pushchair
ball: sphere orb globe
box: case carton casket
bottle: flask jug carafe
cup: mug tumbler beaker
book: volume tome
duck: drake duckling
toy: plaything trinket
thing: object item article
color: shade hue tint
colour: tone tinge
video: clip footage recording
movie: film flick
cartoon: animation anime
music: tune melody
song: ballad ditty anthem
band: ensemble
stage: podium platform
guitar: banjo ukulele
game: contest bout
food: fare grub nourishment
dish: meal course
recipe: formula
meat: beef flesh
potato: spud tater
egg: ovum
water: liquid aqua
bowl: basin tureen
plate: saucer platter
pot: saucepan kettle
knife: blade cleaver dagger
kitchen: galley cookroom scullery
room: chamber parlor
house: home residence dwelling
table: desk counter
chair: seat stool
couch: sofa settee divan
bed: bunk mattress cot
floor: flooring parquet
wall: partition
window: windowpane casement
road: highway motorway
street: avenue lane boulevard
field: meadow pasture
garden: yard lawn backyard
beach: shore seaside coast
ocean: sea
workshop: garage atelier smithy
nursery: playroom daycare creche
snow: frost wintertime ice
camp: campsite bivouac encampment
place: spot location site
phone: telephone mobile cellphone
computer: laptop pc
screen: monitor display
paper: sheet parchment
machine: apparatus contraption
gun: firearm rifle pistol
clothes: garments apparel attire
dress: gown frock
shirt: blouse tee
suit: tuxedo
hair: locks mane
news: bulletin headlines
melon: cantaloupe honeydew gourd
lamp: streetlight lightbulb
buoy: float bobber
bearing: roller marble
balloon: airball
snowball: slushball iceball
lantern: torch nightlight
sponge: scrubber scourer wiper
planter: flowerpot trough
parcel: package packet
cooler: icebox coolbox
brick: cinderblock paver
block: cube dice
sled: sledge toboggan
crate: chest trunk
donut: doughnut bagel cruller
wreath: garland circlet
tire: tyre wheel
lifebuoy: lifebelt lifering
washer: gasket grommet
hoop: hulahoop
tube: inflatable
cushion: pillow pad
spoon: ladle scoop spatula
stick: twig branch
pole: post pillar mast
driftwood: plank timber
pipe: conduit duct
crayon: pencil marker
ski: snowblade
log: firewood stump
funnel: strainer
gnome: elf dwarf
cone: pylon
shell: conch seashell
drill: auger borer
hat: cap bonnet
fir: pine spruce conifer
tent: tepee canopy
"""

VERBS = """
talk: speak chat converse
walk: stroll stride pace
run: sprint jog dash
jump: leap hop
fall: drop tumble plunge
bounce: rebound ricochet
roll: trundle rotate
slide: glide slip skid
hit: strike bump smack
stop: halt cease pause
leave: exit depart vanish
appear: emerge arrive enter
fly: soar flutter hover
move: travel shift stir
happen: occur transpire
show: exhibit present
explain: clarify illustrate
describe: depict portray
demonstrate: showcase
wear: don flaunt
cook: bake fry
prepare: ready arrange
make: create produce
eat: devour consume munch
drink: sip gulp quaff
cut: slice chop carve
mix: blend combine
hold: grip grasp clutch
use: utilize employ
drive: steer motor
ride: mount
dance: groove waltz
sing: chant warble
perform: act
fight: brawl battle
watch: observe view
look: gaze peer glance
try: attempt
teach: instruct tutor
discuss: debate
clean: wash scrub
laugh: giggle chuckle
throw: toss hurl fling
climb: scale ascend
"""

OTHERS = """
red: crimson scarlet ruby
orange: tangerine amber
yellow: golden lemon
green: emerald olive jade
blue: azure navy cobalt
purple: violet mauve lilac
pink: rose magenta
brown: tan chestnut hazel
white: ivory pale
black: ebony sable inky
big: large huge
small: little tiny
old: elderly aged
young: juvenile
beautiful: pretty gorgeous
quickly: rapidly swiftly
yes: yeah yep aye
no: nope nay nah
"""

IRREGULAR_NOUNS = """
man men, gentleman gentlemen, woman women, child children, fish fish, seafood seafood, people people,
folk folk, clothes clothes, apparel apparel, attire attire, aircraft aircraft, newsman newsmen,
sportsman sportsmen, knife knives, elf elves, potato potatoes, news news, music music, water water,
food food, snow snow, ice ice, hair hair
"""

IRREGULAR_VERBS = """
speak spoke spoken, run ran run, fall fell fallen, slide slid slid, hit hit hit, strike struck struck,
leave left left, fly flew flown, show showed shown, wear wore worn, make made made, eat ate eaten,
drink drank drunk, cut cut cut, hold held held, drive drove driven, ride rode ridden, sing sang sung,
fight fought fought, throw threw thrown, teach taught taught, fling flung flung
"""

DOUBLING = "jog hop drop slip skid stop stir occur don sip chop grip chat scrub run hit cut"
"""Verbs that double their last letter before -ing and -ed."""

UNTOUCHED = frozenset(["left"])
"""Forms that are not rewritten, because they are more often another word: 'left' is a side."""
