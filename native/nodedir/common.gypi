{'target_defaults': {'default_configuration': 'Release', 'configurations': {'Release': {'cflags': ['-O2'], 'defines': ['NDEBUG']}, 'Debug': {'cflags': ['-g', '-O0']}}}}
