"""The chart, the images and the rules, with the tools that judge them."""
