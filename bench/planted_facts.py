"""Facts that are planted in a long text, and questions that ask for them in other words."""

from __future__ import annotations

from typing import Final, NamedTuple


class PlantedFact(NamedTuple):
    """A sentence, and a question that shares as few words with it as can be."""

    text: str
    question: str


FACTS: Final = tuple(
    PlantedFact(*pair)
    for pair in (
        ("The spare key of the pump house hangs behind the third barrel in the cellar.",
         "Where can I find something to unlock the building with the water machinery?"),
        ("Retries of the billing importer stop after seven attempts, as agreed with Okonkwo.",
         "How often does the job that loads invoices try again before it gives up?"),
        ("The ferry to the northern island leaves at a quarter past six in the morning.",
         "When does the boat go that takes people to the isle up north?"),
        ("Customer passwords are hashed with argon2id since the audit in March.",
         "Which algorithm protects the clients' login secrets?"),
        ("Ingrid is allergic to peanuts and must not be served the Thai menu.",
         "Which guest cannot eat nuts?"),
        ("The staging database is wiped every Sunday at midnight by a cron job.",
         "On which day does the test environment lose its data?"),
        ("We rejected Kafka because nobody on the team wanted to run ZooKeeper.",
         "Why did we decide against the streaming platform?"),
        ("The telescope mirror cracked during transport and is insured for two million euros.",
         "What was damaged on the way, and what would the policy pay?"),
        ("Professor Adeyemi retires in October and hands the chair to Lucia Ferrante.",
         "Who succeeds the academic that is leaving in autumn?"),
        ("The API returns 418 when a client sends more than forty headers.",
         "What status code do callers get for too many header fields?"),
        ("Our office plants are watered by the night guard, a former botanist.",
         "Who takes care of the greenery after hours?"),
        ("The melody of the second movement was borrowed from a Moravian lullaby.",
         "From which folk song does the composer's tune come?"),
        ("Bears have been seen near the eastern trail, so hikers need a bell.",
         "What should walkers carry because of dangerous wildlife?"),
        ("The migration must not run while the nightly backup is in progress.",
         "When is it forbidden to change the schema?"),
        ("Marta agreed to translate the manual into Portuguese by the end of May.",
         "Who is doing the localisation for Brazil and when is it due?"),
        ("The old bridge can carry at most eleven tonnes after the flood.",
         "What is the weight limit for crossing the river since the water rose?"),
        ("Feature flags older than ninety days are deleted automatically.",
         "What happens to toggles that nobody removed for three months?"),
        ("The wine cellar flooded in 1987 and the whole vintage was lost.",
         "In which year did water destroy the bottles?"),
        ("Timeouts of the payment gateway were raised from three to twelve seconds.",
         "How long do we now wait for the card processor?"),
        ("The cat of the lighthouse keeper is called Baltasar and sleeps in the oil room.",
         "What is the name of the pet that lives with the man who tends the beacon?"),
        ("Nobody may deploy on Fridays after the incident with the tax module.",
         "Is it allowed to release at the end of the week?"),
        ("The choir rehearses in the gym because the church roof is being repaired.",
         "Why do the singers practise in the sports hall?"),
        ("Server room access needs both a badge and a fingerprint since the theft.",
         "What do I have to show to enter the data centre?"),
        ("The recipe uses buckwheat flour instead of wheat so that Tom can eat it.",
         "How was the dish changed for somebody who does not tolerate gluten?"),
        ("Log files are kept for thirteen months to satisfy the Danish regulator.",
         "For how long must we retain the records of what the system did, and for whom?"),
        ("The glacier lost forty metres of ice in the last decade.",
         "How much has the frozen mass shrunk over ten years?"),
        ("Sven wrote the parser in Rust as an experiment and it stayed in production.",
         "Which component was only meant as a trial but is still used?"),
        ("The museum is closed on Tuesdays except during school holidays.",
         "On which weekday can't visitors see the exhibition?"),
        ("Orders above five thousand dollars need the approval of two managers.",
         "Who has to sign off on expensive purchases?"),
        ("The antenna on the roof interferes with the heart monitors on the third floor.",
         "What disturbs the medical devices upstairs?"),
        ("Aunt Beatrix left the violin to her godson, not to the conservatory.",
         "Who inherited the instrument?"),
        ("The cache is invalidated by a message on the red channel, never by time.",
         "How do stale entries get removed from memory?"),
        ("Divers found the anchor of the Esperanza two miles south of the reef.",
         "Where was a part of the sunken ship discovered?"),
        ("The contract with the cleaning company ends on the last day of February.",
         "When does the agreement with the janitors run out?"),
        ("All prices on the website are shown without value added tax.",
         "Do the amounts in the online shop include the levy to the state?"),
        ("The youngest goat escapes through the gap beside the compost heap.",
         "How does the small animal get out of its pen?"),
        ("Release notes are written by support, since engineers forget the customers.",
         "Which department describes what is new in each version?"),
        ("The emergency generator starts by itself after nine seconds without power.",
         "How quickly does backup electricity come on in an outage?"),
        ("Yuki keeps the signing certificate on a token in the blue safe.",
         "Where is the thing stored with which we sign our software?"),
        ("Sessions of the beta testers were recorded with their written consent.",
         "Did the people who tried the early version agree to be filmed?"),
    )
)  # fmt: skip
