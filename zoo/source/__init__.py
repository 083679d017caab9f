"""A network as one file of Python that needs only its framework: `zoo source`.

blocks.py    which classes and calls make the network, for any framework
render.py    those as formatted lines
write.py     the file: the framework's layers (`backends/*/source.py`), the blocks, the network, `load`
"""
