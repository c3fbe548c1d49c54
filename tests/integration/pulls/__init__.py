"""Pulls that meet: shared layers, lost leases, pulls that are ended while they fetch.

Most tests drive two workers on one database and one volume.

    meeting               a pull in the middle of a layer that other pulls want
    conftest              the two workers, and that meeting
    test_single_flight    one download for all pulls that want a layer
    test_leases_lost      owners that die, hang or are overtaken
    test_companions       small layers that are fetched together
    test_waiting          pulls that wait for space, a pause, an urgent pull or a slot
    test_counting         how received bytes are counted
"""
