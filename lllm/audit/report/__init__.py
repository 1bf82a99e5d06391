"""Reports for people who have to answer questions about what was recorded.

    session_facts  reads the events of one session: who, when, with what, each step, what it cost
    report         gathers these of several sessions, and what the log itself says
    compose        makes a document of that
    document       headings, texts and tables, which say nothing of how they are shown
    markdown       shows a document as Markdown
    html_page      shows it as one page that needs nothing else

Every text in a document may be anybody's. Each form escapes all of them.
"""

from lllm.audit.report.report import AuditReport, audit_report

__all__ = ["AuditReport", "audit_report"]
