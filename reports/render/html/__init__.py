"""Tables, figures and evidence as one HTML file that needs nothing else: no network, no server, no other file.

`page` makes the document; `picture.pictures` draws the figures that it shows. Style and script are data files beside
this one and are embedded; a content security policy with their hashes forbids everything else, so that the page cannot
fetch, and a text of a records file cannot run. Without the script all that it says can be read; with it tables are
sorted, filtered and asked.
"""

from __future__ import annotations

from visionbench.reports.render.html.page import page
from visionbench.reports.render.html.picture import Picture, pictures

__all__ = ["Picture", "page", "pictures"]
