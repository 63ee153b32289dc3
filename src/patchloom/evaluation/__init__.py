"""Features, distances, similarities and seams, each with what is needed to believe it.

estimates       the values: Estimate (with N, interval, floor, warnings), Figure, Absent
intervals       bootstrap, paired differences          floors          real against real, trials of one N
frechet kernel neighbourhoods                          similarity seams diversity memorisation reconstruction
patches         pictures from folders, arrays, crops   features        pictures to vectors; the only torch here
comparison      all distances of two sets              entries report  one JSON file and one table
"""
