"""`anabranch top`: open and recent runs, consumer groups, workers and dead letters, live on a terminal."""
