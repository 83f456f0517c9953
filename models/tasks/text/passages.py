"""Holds passages whose answers a bundle records, so that it can be checked wherever it is loaded.

Written for this project: a manifest carries no text of anybody else's. Short and long, one longer than a
window, with and without characters beyond ASCII.
"""

LIGHTHOUSE = (
    "The lighthouse on Grey Point was built in 1871 by Anna Lindqvist, an engineer from Gothenburg. It stands 34 "
    "metres above the sea and was lit by whale oil until 1902, when a paraffin lamp was installed. The last keeper "
    "left in 1968."
)
BAKERY = (
    "Every morning at four, Tomás unlocks the bakery behind the market and feeds the oven with beech wood. His "
    "grandmother, Inês, opened the shop in 1949 with a loan of 300 escudos; the café next door pays its rent in rolls."
)
RIVER = (
    "The river Osk rises in the Harrow hills and flows 112 kilometres north-east before it reaches the lake. Salmon "
    "returned to it after two weirs were removed, and the mill at Tern now makes electricity instead of flour."
)
LAB = (
    "In the second trial the team cooled the alloy to 4 kelvin with liquid helium. Resistance vanished below 9.2 "
    "kelvin, as it does in pure niobium, so the copper that had been added made no difference."
)
SERVER = (
    "The outage began at 09:12 when an expired certificate stopped the load balancer from reaching either data centre. "
    "Engineers issued a new certificate at 09:40 and traffic recovered within five minutes. No data was lost."
)
CHRONICLE = " ".join(
    f"In year {year} of its charter the society met in the old library and elected {year // 2} new members."
    for year in range(21, 35)
)

CHARTER = f"{CHRONICLE} {LIGHTHOUSE} {CHRONICLE}"

TEXTS = (
    "What a dull evening.",
    "A café worth the walk!",
    "How far is it?",
    LIGHTHOUSE,
    BAKERY,
    RIVER,
    LAB,
    SERVER,
    CHARTER,
)
