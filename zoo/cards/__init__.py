"""Model cards: what is known about a network, from its spec, the registry of weights, and what was measured.

facts.py     the card, as a JSON document: `zoo.info`
sections.py  the card as tables of text, for a terminal, HTML and Markdown
markdown.py  those in Markdown: docs/models, and the README.md of `zoo package`
page.py      the card as one HTML page: `zoo info MODEL --html FILE`
figure.py    the network as an SVG picture: `zoo info MODEL --svg FILE`
"""
