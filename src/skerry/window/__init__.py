"""Windows over event time and the features of a window: pure functions of samples and time, without I/O."""
