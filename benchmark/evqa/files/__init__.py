"""Files and folders: JSON Lines, data and output folders, links, output streams."""
