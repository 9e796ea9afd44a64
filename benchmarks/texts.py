"""English-like text from a seed: about as compressible as real talk, the same in every run and process."""

from __future__ import annotations

from random import Random

GLUE = """
the the the the the a a a an and and and or but so because if when while after before of of of to to to in in on at by
for for from with without about into over under between is is are was were be been has have had will would can could
should may might must not no yes this that these those there here it it its you you your we our they their i my me
"""

TALK = """
traveller ticket train platform harbour ferry museum garden bridge tower market corner bakery coffee breakfast dinner
hotel lobby luggage suitcase passport visa border flight gate airline seat window aisle delay weather forecast rain
sunshine evening morning afternoon weekend holiday season budget price discount booking deposit refund invoice receipt
agent customer manager account balance payment card address phone message answer question request reminder meeting
calendar schedule deadline project report draft chapter summary paragraph sentence example figure table column folder
document search result source article author review rating comment picture video music concert theatre festival stage
river mountain valley forest island beach village castle temple church square avenue station metro bus taxi bicycle
driver guide map route distance kilometre hour minute second quarter half double single family friend child parent
doctor nurse hospital insurance policy claim damage repair garage engine battery signal network server database model
token prompt tool function argument value error warning attempt retry failure success progress step journal memory
arrange ask bring build buy call cancel change check choose compare confirm consider contact cost decide describe
deliver depend discover eat enjoy expect explain find finish follow forget give help hope include join keep know learn
leave like listen look lose make mean meet miss move need offer open order pack pay plan prefer prepare promise read
recommend remember repeat reply reserve return run save say see sell send share show sleep speak spend start stay stop
suggest take talk tell thank think travel trust try turn understand use visit wait walk want watch work worry write
available beautiful better big busy careful central certain cheap clean clear close cold comfortable common complete
correct different difficult early easy empty excellent expensive famous fast final free fresh friendly full good great
happy heavy helpful important interesting large last late local long lovely main modern narrow new next nice noisy old
perfect pleasant popular possible quick quiet ready real recent safe short simple slow small special strong sure warm
actually again almost already also always around away directly easily enough finally maybe nearly never often perhaps
probably quickly rather really slowly sometimes soon still today together tomorrow tonight usually very well yesterday
"""

GLUE_WORDS = GLUE.split()
TALK_WORDS = TALK.split()


def text(seed: int, length: int) -> str:
    """Sentences of exactly `length` characters."""
    random = Random(seed)
    parts: list[str] = []
    size = 0
    while size < length:
        count = random.randint(6, 18)
        words = [random.choice(GLUE_WORDS if random.random() < 0.5 else TALK_WORDS) for _ in range(count)]
        sentence = " ".join(words).capitalize() + ". "
        parts.append(sentence)
        size += len(sentence)
    return "".join(parts)[:length]
