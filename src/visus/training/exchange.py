"""The files through which the processes of one training meet, by name: in a folder of their own, as long as they run."""

WORK, TROUBLE, STORE, LOADED = "work", "trouble", "store", "loaded"
