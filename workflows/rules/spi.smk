# From shots of single particles to densities, where the configuration has a section spi_reconstruct.

BLOCKS = generation_blocks()


rule simulate_spi:
    input:
        files=named_files("simulate_spi"),
    output:
        manifest=update("<results>/simulate_spi/manifest.json"),
    log:
        "<logs>/simulate_spi.log",
    benchmark:
        "<benchmarks>/simulate_spi.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 64
    resources:
        mem_mb=lambda wildcards, threads: 1000 * threads,
        runtime="2h",
        mpi="",
    params:
        config=CONFIG_FILE,
        out=subpath(output.manifest, parent=True),
        section=section("simulate_spi") if CONFIG.simulate_spi else "",
    shell:
        "{resources.mpi} exafel simulate spi --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"


rule spi_hits:
    input:
        images=images_of("spi_hits"),
    output:
        manifest=update("<results>/spi_hits/manifest.json"),
    log:
        "<logs>/spi_hits.log",
    benchmark:
        "<benchmarks>/spi_hits.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 64
    resources:
        mem_mb=lambda wildcards, threads: 1000 * threads,
        runtime="2h",
        mpi="",
    params:
        config=CONFIG_FILE,
        images=options("--images", "spi_hits"),
        out=subpath(output.manifest, parent=True),
        section=section("spi_hits"),
    shell:
        "{resources.mpi} exafel spi hits {params.images:q} --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"


rule spi_generations:
    # A block of generations: images stay in memory within it, and the step's checkpoint leads from one to the next.
    input:
        results=results_of("spi_reconstruct"),
        before=lambda wildcards: block_before(int(wildcards.last)),
    output:
        done=touch("<results>/spi_reconstruct/blocks/{last}.done"),
    log:
        "<logs>/spi_generations_{last}.log",
    benchmark:
        "<benchmarks>/spi_generations_{last}.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 64
    resources:
        mem_mb=lambda wildcards, threads: 4000 + 1000 * threads,
        runtime="8h",
        mpi="",
    params:
        config=CONFIG_FILE,
        images=spi_options(),
        out=subpath(output.done, ancestor=2),
        section=section("spi_reconstruct") if CONFIG.spi_reconstruct else "",
    shell:
        "{resources.mpi} exafel spi reconstruct {params.images:q} --config {params.config:q} --out {params.out:q}"
        " --until {wildcards.last} --ranks {threads} > {log:q} 2>&1"


rule spi_reconstruct:
    # The last block ends the reconstruction: halves together, phases, maps.
    input:
        results=results_of("spi_reconstruct"),
        block=block_before(None),
    output:
        manifest=update("<results>/spi_reconstruct/manifest.json"),
    log:
        "<logs>/spi_reconstruct.log",
    benchmark:
        "<benchmarks>/spi_reconstruct.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 64
    resources:
        mem_mb=lambda wildcards, threads: 4000 + 1000 * threads,
        runtime="8h",
        mpi="",
    params:
        config=CONFIG_FILE,
        images=spi_options(),
        out=subpath(output.manifest, parent=True),
        section=section("spi_reconstruct") if CONFIG.spi_reconstruct else "",
    shell:
        "{resources.mpi} exafel spi reconstruct {params.images:q} --config {params.config:q} --out {params.out:q}"
        " --ranks {threads} > {log:q} 2>&1"


rule spi_evaluate:
    input:
        results=results_of("spi_evaluate"),
        files=named_files("spi_evaluate"),
    output:
        manifest=update("<results>/spi_evaluate/manifest.json"),
    log:
        "<logs>/spi_evaluate.log",
    benchmark:
        "<benchmarks>/spi_evaluate.tsv"
    conda:
        "../envs/exafel.yaml"
    resources:
        mem_mb=8000,
        runtime="1h",
        mpi="",
    params:
        config=CONFIG_FILE,
        images=spi_images(),
        reconstruction=SPI_OUT,
        out=subpath(output.manifest, parent=True),
        section=section("spi_evaluate"),
    shell:
        "{resources.mpi} exafel spi evaluate {params.images:q} --reconstruction {params.reconstruction:q} --config {params.config:q}"
        " --out {params.out:q} > {log:q} 2>&1"
