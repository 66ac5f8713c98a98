"""The page of the diagnosis: text and figures of each defect, and the file they are put in."""
