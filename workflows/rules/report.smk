# The page that shows it all; `snakemake --report` embeds it.


rule report:
    input:
        results=results_of("report"),
    output:
        manifest=update("<results>/report/manifest.json"),
        page=report(
            "<results>/report/report.html",
            caption="../report/report.rst",
            category="Serial crystallography",
            labels={"data set": CONFIG.dataset, "trial": CONFIG.trial},
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../envs/exafel.yaml"
    resources:
        mpi="",
        mem_mb=4000,
        runtime="30m",
    params:
        config=CONFIG_FILE,
        results=options("--results", "report"),
        out=subpath(output.manifest, parent=True),
        section=section("report"),
    shell:
        "{resources.mpi} exafel report {params.results:q} --config {params.config:q} --out {params.out:q} > {log:q} 2>&1"
