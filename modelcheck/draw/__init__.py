"""Pictures of what was found, as Graphviz graphs: traces in lanes, the order of locks, who waits, control flow."""

from modelcheck.draw.flow import flow_picture
from modelcheck.draw.layout import FORMATS, NoLayout, fonts_installed, render
from modelcheck.draw.locks import cycle_picture, cycles, hierarchy_picture, waits_picture
from modelcheck.draw.picture import Picture
from modelcheck.draw.trace import trace_picture

__all__ = [
    "FORMATS",
    "NoLayout",
    "Picture",
    "cycle_picture",
    "cycles",
    "flow_picture",
    "fonts_installed",
    "hierarchy_picture",
    "render",
    "trace_picture",
    "waits_picture",
]
