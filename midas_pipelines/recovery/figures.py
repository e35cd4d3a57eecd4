"""The figures that marketplaces and the law ask for: what, and by whom. Imports nothing, for Dagster reads the names."""

AMAZON, GDPR = "Amazon DPP", "GDPR"
FIGURES: dict[str, tuple[str, ...]] = {
    "pii_retention": ("Personal data goes at most 30 days after delivery", f"{AMAZON}; {GDPR} 5(1)(e)"),
    "requests_in_time": ("A person's request is answered within 30 days", f"{GDPR} 12(3); {AMAZON}"),
    "purpose": ("Personal data only to ship and to tax", AMAZON),
    "payloads_encrypted": ("AES-128 or better at rest", AMAZON),
    "disks_encrypted": ("The store that holds addresses is encrypted as a whole", AMAZON, "Encrypt the volume of the database."),
    "database_tls": ("TLS 1.2 on internal hops too", AMAZON),
    "passwords": ("12 characters, history of 10, a second factor, no shared accounts", AMAZON, "The identity provider before Dagster and the console decides."),
    "session_lock": ("Sessions lock after 15 idle minutes", AMAZON, "The identity provider decides."),
    "lockout": ("At most 10 failed sign-ins", AMAZON),
    "access_review": ("Access is reviewed every quarter", AMAZON),
    "key_rotation": ("Keys change every year", AMAZON),
    "audit_log": ("Logs cannot be changed and are kept for 12 months", AMAZON),
    "log_review": ("Logs are reviewed every 2 weeks", AMAZON),
    "alerts": ("Incidents are noticed", f"{AMAZON}; {GDPR} 33"),
    "incident_contact": ("There is a named contact", AMAZON),
    "incident_plan": ("The incident plan is reviewed every 6 months", AMAZON),
    "scan": ("Dependencies are scanned every 30 days", AMAZON),
    "penetration_test": ("A penetration test every year", AMAZON),
    "backup": ("All data can be recovered", AMAZON),
    "backup_drill": ("Recovery is tested", f"{AMAZON}; {GDPR} 32"),
    "backup_retention": ("Backups forget as soon as the shop", GDPR),
    "backup_elsewhere": ("Backups are in another place", AMAZON, "Choose a bucket in another region."),
    "firewall": ("Public addresses are behind a web application firewall", AMAZON, "Put one before the proxy."),
    "books": ("Other data of Amazon goes after 18 months, unless law needs it", AMAZON, "Orders are the shop's books; tax law decides."),
    "account_deletion": ("eBay's notices of deleted accounts are obeyed", "eBay", "4Seller gets them; forward them as privacy requests."),
}  # fmt: skip
"""By name: what is asked, by whom, and of a figure that is not ours to see what a person has to do or know."""
