def write_report(plan, results, threads):
    pass
