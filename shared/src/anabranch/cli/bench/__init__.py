"""`anabranch bench`: how fast this installation is, by what a user can observe.

Every measurement goes in by the requests topic and comes out by the results topic; nothing looks into a service.
`shapes` and `layered` say what is asked for, `asking` asks and takes the time, `distribution` and `report` make
figures and words of it; one module for each command has the rest.
"""
