"""One test for each behaviour of the program that towline replaces.

That program was one file of another project. Its observable behaviours are numbered S01 to S45, its
tests T1 to T6. Where its behaviour was deficient, the test here is for towline's.

    test_seed_requests      S01 to S18: requests to registries
    test_seed_images        S19 to S29: images
    test_seed_layers        S30 to S40: layers
    test_seed_words         S41 to S45: output and error classes
    test_seed_tests         T1 to T6, and a check that the list is complete
    broken_off              a pull whose download was interrupted, for these tests
"""
