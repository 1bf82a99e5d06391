"""Makes reports about recorded sessions for people who have to account for them.

    session_facts  reads the events of one session: who, when, with what, each step, the cost
    report         gathers the facts of several sessions, and the state of the log itself
    compose        makes a document of a report
    document       the parts of a document: headings, texts and tables
    markdown       formats a document as Markdown
    html_page      formats a document as one HTML page that loads nothing

Texts in a document come from the log and can't be trusted: both formats escape all of them.
"""

from lllm.audit.report.report import AuditReport, audit_report

__all__ = ["AuditReport", "audit_report"]
